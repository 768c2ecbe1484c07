package ca_test

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/shoal-dev/shoal/internal/ca"
	"github.com/shoal-dev/shoal/internal/shoal"
)

// A renewal may be cut off by a loss of power after any of its writes. The node must be left with a certificate and the key that belongs to it.
func TestARenewalMayBeCutOffAnywhere(t *testing.T) {
	root := newRoot(t)
	pair := func() (cert, key []byte) {
		key, csr, err := ca.NewRequest()
		if err != nil {
			t.Fatal(err)
		}
		if cert, err = root.Sign(csr, shoal.NewID[shoal.NodeID](), "cluster", shoal.RoleWorker, time.Hour); err != nil {
			t.Fatal(err)
		}
		return cert, key
	}
	oldCert, oldKey := pair()
	newCert, newKey := pair()
	for name, files := range map[string]map[string][]byte{
		"before":                       {ca.CertFile: oldCert, ca.KeyFile: oldKey},
		"after the next key":           {ca.CertFile: oldCert, ca.KeyFile: oldKey, "swarm-node.key.next": newKey},
		"after the certificate":        {ca.CertFile: newCert, ca.KeyFile: oldKey, "swarm-node.key.next": newKey},
		"after the key got its name":   {ca.CertFile: newCert, ca.KeyFile: newKey},
		"by a version with one key":    {ca.CertFile: newCert, ca.KeyFile: newKey, "swarm-node.key.next": oldKey},
		"the first, before it has one": {ca.CertFile: newCert, "swarm-node.key.next": newKey},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			files[ca.RootFile] = root.CertPEM
			for name, content := range files {
				if err := os.WriteFile(filepath.Join(dir, name), content, 0o600); err != nil {
					t.Fatal(err)
				}
			}
			for range 2 { // the second time nothing is left to mend
				id, err := ca.LoadIdentity(dir, nil)
				if err != nil {
					t.Fatal(err)
				}
				want, err := ca.SaveIdentity(t.TempDir(), root.CertPEM, files[ca.CertFile], map[bool][]byte{true: oldKey, false: newKey}[string(files[ca.CertFile]) == string(oldCert)])
				if err != nil {
					t.Fatal(err)
				}
				if id.Certificate().SerialNumber.Cmp(want.Certificate().SerialNumber) != 0 {
					t.Error("another certificate")
				}
				if _, err := os.Stat(filepath.Join(dir, "swarm-node.key.next")); !os.IsNotExist(err) {
					t.Errorf("the next key: %v", err)
				}
			}
		})
	}
}
