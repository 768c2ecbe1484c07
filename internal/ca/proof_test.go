package ca_test

import (
	"testing"
	"time"

	"github.com/containerd/errdefs"

	"github.com/shoal-dev/shoal/internal/ca"
	"github.com/shoal-dev/shoal/internal/shoal"
)

func TestAProofIsAcceptedOfTheKeysOwnerOnly(t *testing.T) {
	root := newRoot(t)
	expired := func(under *ca.Root) *ca.Identity {
		key, csr, err := ca.NewRequest()
		if err != nil {
			t.Fatal(err)
		}
		cert, err := under.Sign(csr, "n1", "cluster", shoal.RoleWorker, -time.Hour)
		if err != nil {
			t.Fatal(err)
		}
		id, err := ca.SaveIdentity(t.TempDir(), under.CertPEM, cert, key)
		if err != nil {
			t.Fatal(err)
		}
		if id.Valid(time.Now()) {
			t.Fatal("the certificate is still valid")
		}
		return id
	}
	prove := func(id *ca.Identity, csr []byte) ca.Proof {
		proof, err := id.Prove(csr)
		if err != nil {
			t.Fatal(err)
		}
		return proof
	}
	id, other, stranger := expired(root), expired(root), expired(newRoot(t))
	cert, err := root.CheckProof(prove(id, []byte("request")), []byte("request"))
	if err != nil || cert.Subject.CommonName != "n1" {
		t.Fatalf("proof of %v: %v", cert, err)
	}
	mixed := prove(id, []byte("request"))
	mixed.Signature = prove(other, []byte("request")).Signature
	for name, proof := range map[string]ca.Proof{
		"another request": prove(id, []byte("another")), "another node's key": mixed, "another root": prove(stranger, []byte("request")), "nothing": {},
	} {
		if _, err := root.CheckProof(proof, []byte("request")); !errdefs.IsPermissionDenied(err) {
			t.Errorf("proof with %s: %v", name, err)
		}
	}
}
