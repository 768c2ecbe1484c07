package membership

import (
	"bytes"
	"crypto/x509"
	"encoding/pem"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/shoal-dev/shoal/internal/ca"
	"github.com/shoal-dev/shoal/internal/shoal"
)

// chain parses a certificate and what it carries along.
func chain(t *rapid.T, text []byte) (leaf *x509.Certificate, others *x509.CertPool) {
	others = x509.NewCertPool()
	for block, rest := pem.Decode(text); block != nil; block, rest = pem.Decode(rest) {
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			t.Fatal(err)
		}
		if leaf == nil {
			leaf = cert
		} else {
			others.AddCert(cert)
		}
	}
	return leaf, others
}

func TestCertificatesAreTrustedByEveryEarlierRoot(t *testing.T) {
	_, csr, err := ca.NewRequest()
	if err != nil {
		t.Fatal(err)
	}
	rapid.Check(t, func(t *rapid.T) {
		first, err := ca.NewRoot()
		if err != nil {
			t.Fatal(err)
		}
		cluster := &shoal.Cluster{ID: "c", RootCA: first.CertPEM, RootKey: first.KeyPEM}
		roots := []*ca.Root{first}
		for range rapid.IntRange(0, 3).Draw(t, "rotations") {
			if err := RotateRoot(cluster); err != nil {
				t.Fatal(err)
			}
			if rapid.Bool().Draw(t, "give up for another") {
				if err := RotateRoot(cluster); err != nil {
					t.Fatal(err)
				}
			}
			if n := bytes.Count(cluster.Intermediates, []byte("BEGIN CERTIFICATE")); n != len(roots) {
				t.Fatalf("%d cross-signed certificates after %d rotations", n, len(roots))
			}
			if rapid.Bool().Draw(t, "check in between") {
				verify(t, cluster, csr, roots)
			}
			if err := finishRotation(cluster); err != nil {
				t.Fatal(err)
			}
			root, err := ca.ParseRoot(cluster.RootCA, cluster.RootKey)
			if err != nil {
				t.Fatal(err)
			}
			roots = append(roots, root)
			token, err := ca.ParseToken(cluster.Tokens.Worker)
			if err != nil || token.Digest != root.Digest() {
				t.Fatalf("the join token is not the new root's: %v", err)
			}
		}
		verify(t, cluster, csr, roots)
	})
}

func verify(t *rapid.T, cluster *shoal.Cluster, csr []byte, roots []*ca.Root) {
	issuing, err := issuingRoot(cluster)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := issuing.Sign(csr, "n", cluster.ID, shoal.RoleManager, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	leaf, others := chain(t, slices.Concat(cert, cluster.Intermediates))
	for i, root := range roots {
		_, err := leaf.Verify(x509.VerifyOptions{Roots: root.Pool(), Intermediates: others, DNSName: ca.ManagerUnit})
		if err != nil {
			t.Fatalf("who trusts root %d of %d does not trust a new certificate: %v", i, len(roots), err)
		}
	}
}

func TestAutolockKeys(t *testing.T) {
	c := &shoal.Cluster{}
	SetAutolock(c, true)
	if c.UnlockKey != "" {
		t.Error("a key without autolock")
	}
	c.Spec.AutoLock = true
	SetAutolock(c, false)
	first := c.UnlockKey
	SetAutolock(c, false)
	if first == "" || c.UnlockKey != first {
		t.Errorf("key %q, then %q", first, c.UnlockKey)
	}
	SetAutolock(c, true)
	if c.UnlockKey == first {
		t.Error("the key was not rotated")
	}
}
