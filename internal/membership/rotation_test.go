package membership

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/shoal-dev/shoal/internal/ca"
	"github.com/shoal-dev/shoal/internal/ca/cfssltest"
	"github.com/shoal-dev/shoal/internal/shoal"
)

// authorities is a manager whose cluster's root is known by certificate or by key, and the authorities that it may ask.
type authorities struct {
	*Membership
	t       *testing.T
	present *ca.Root // of the cluster
	next    *ca.Root // of a company
	cluster *shoal.Cluster
}

func newAuthorities(t *testing.T) *authorities {
	t.Helper()
	a := &authorities{Membership: New(Config{}), t: t, present: newTestRoot(t), next: newTestRoot(t)}
	key, csr, err := ca.NewRequest()
	if err != nil {
		t.Fatal(err)
	}
	cert, err := a.present.Sign(csr, "manager", "c", shoal.RoleManager, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	if a.identity, err = ca.SaveIdentity(t.TempDir(), a.present.CertPEM, cert, key); err != nil {
		t.Fatal(err)
	}
	a.cluster = &shoal.Cluster{ID: "c", RootCA: a.present.CertPEM, RootKey: a.present.KeyPEM}
	return a
}

func newTestRoot(t *testing.T) *ca.Root {
	t.Helper()
	root, err := ca.NewRoot()
	if err != nil {
		t.Fatal(err)
	}
	return root
}

// authority serves a root's external authority and gives the setting for it.
func (a *authorities) authority(root *ca.Root) (*cfssltest.Server, shoal.ExternalCA) {
	server := cfssltest.New(a.t, cfssltest.Listen(a.t), root, a.present, a.next)
	return server, shoal.ExternalCA{Protocol: shoal.ProtocolCFSSL, URL: server.URL, CACert: string(root.CertPEM)}
}

// change is ChangeCA on the cluster.
func (a *authorities) change(wanted SigningCA, rotate bool) error {
	next := *a.cluster
	err := a.ChangeCA(a.t.Context(), &next, wanted, rotate)
	if err == nil {
		a.cluster = &next
	}
	return err
}

// must is change, which has to succeed.
func (a *authorities) must(wanted SigningCA, rotate bool) {
	a.t.Helper()
	if err := a.change(wanted, rotate); err != nil {
		a.t.Fatal(err)
	}
}

// signs makes a certificate and checks that the issuing root has signed it, and that who trusts only a root of the past accepts it.
func (a *authorities) signs(roots ...*ca.Root) {
	a.t.Helper()
	_, csr, err := ca.NewRequest()
	if err != nil {
		a.t.Fatal(err)
	}
	cert, err := sign(a.t.Context(), a.identity, a.cluster, csr, "n", shoal.RoleWorker)
	if err != nil {
		a.t.Fatal(err)
	}
	block, _ := pem.Decode(cert)
	leaf, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		a.t.Fatal(err)
	}
	others := x509.NewCertPool()
	others.AppendCertsFromPEM(a.cluster.Intermediates)
	for i, root := range roots {
		if _, err := leaf.Verify(x509.VerifyOptions{Roots: root.Pool(), Intermediates: others}); err != nil {
			a.t.Errorf("who trusts root %d does not trust the certificate: %v", i, err)
		}
	}
}

func TestARootMovesToAnExternalAuthorityAndBack(t *testing.T) {
	a := newAuthorities(t)
	server, external := a.authority(a.next)
	a.cluster.Spec.ExternalCAs = []shoal.ExternalCA{external}
	a.signs(a.present) // the authority is another root's
	if len(server.Requests()) > 0 {
		t.Error("an authority is asked that is not for the present root")
	}
	a.must(SigningCA{Cert: a.next.CertPEM}, true)
	if a.cluster.Rotation == nil || len(a.cluster.Rotation.Key) > 0 {
		t.Fatalf("rotation %+v", a.cluster.Rotation)
	}
	a.signs(a.next, a.present)
	if err := finishRotation(a.cluster); err != nil {
		t.Fatal(err)
	}
	a.signs(a.next, a.present)
	if n := len(server.Requests()); n != 2 {
		t.Errorf("the authority was asked %d times", n)
	}
	if err := a.change(SigningCA{Cert: newTestRoot(t).CertPEM}, true); !refusedAs(err, "the desired CA certificate: ") {
		t.Errorf("to an authority that is not there: %v", err)
	}
	a.must(SigningCA{}, true) // back to a root of the cluster's own, which the authority endorses
	if len(a.cluster.Rotation.Key) == 0 {
		t.Fatal("a new root without a key")
	}
	own, err := issuingRoot(a.cluster)
	if err != nil {
		t.Fatal(err)
	}
	a.signs(own, a.next)
	if err := finishRotation(a.cluster); err != nil {
		t.Fatal(err)
	}
	a.cluster.Spec.ExternalCAs = nil
	a.must(SigningCA{}, false) // nobody needs the authority any more
	a.signs(own, a.next, a.present)
}

func TestARotationToAnAuthorityThatFailsIsGivenUp(t *testing.T) {
	a := newAuthorities(t)
	server, external := a.authority(a.next)
	a.cluster.Spec.ExternalCAs = []shoal.ExternalCA{external}
	a.must(SigningCA{Cert: a.next.CertPEM}, true)
	server.Refuse("no more")
	_, csr, err := ca.NewRequest()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := sign(t.Context(), a.identity, a.cluster, csr, "n", shoal.RoleWorker); err == nil || !strings.Contains(err.Error(), "no more") {
		t.Errorf("signed: %v", err)
	}
	// The company gives the key after all: the rotation goes on.
	before := a.cluster
	a.must(SigningCA{Cert: a.next.CertPEM, Key: a.next.KeyPEM}, true)
	a.cluster.Spec.ExternalCAs = nil
	a.signs(a.next, a.present)
	// Or the cluster stays with its root.
	a.cluster = before
	a.cluster.Spec.ExternalCAs = nil
	a.must(SigningCA{Cert: a.present.CertPEM, Key: a.present.KeyPEM}, true)
	if a.cluster.Rotation != nil || len(a.cluster.Intermediates) > 0 {
		t.Errorf("still there: %+v, %s", a.cluster.Rotation, a.cluster.Intermediates)
	}
	a.signs(a.present)
}

func TestTheKeyOfTheRootGoesToAnAuthorityAndComesBack(t *testing.T) {
	a := newAuthorities(t)
	server, external := a.authority(a.present)
	external.CACert = "" // for the present root
	a.cluster.Spec.ExternalCAs = []shoal.ExternalCA{external}
	a.signs(a.present)
	a.must(SigningCA{Cert: a.present.CertPEM}, true) // the managers forget it
	if len(a.cluster.RootKey) > 0 || a.cluster.Rotation != nil {
		t.Errorf("key %q, rotation %+v", a.cluster.RootKey, a.cluster.Rotation)
	}
	a.signs(a.present)
	if n := len(server.Requests()); n != 2 {
		t.Errorf("the authority was asked %d times", n)
	}
	a.cluster.Spec.ExternalCAs = nil
	if err := a.change(SigningCA{}, false); !refusedAs(err, "the current CA certificate: ") {
		t.Errorf("nobody could sign any more: %v", err)
	}
	a.must(SigningCA{Cert: a.present.CertPEM, Key: a.present.KeyPEM}, true)
	a.signs(a.present)
	if a.cluster.Rotation != nil {
		t.Error("a rotation for the return of the key")
	}
}

// refusedAs tells whether an error is Docker's for a root that nobody could sign for.
func refusedAs(err error, which string) bool {
	return err != nil && strings.Contains(err.Error(), "there must be at least one valid, reachable external CA corresponding to "+which)
}

func TestRootsThatCannotBeAreRefused(t *testing.T) {
	a := newAuthorities(t)
	other := newTestRoot(t)
	sameKey, short, leaf := SigningCA{Cert: renewedRoot(t, a.present), Key: a.present.KeyPEM}, testCertificate(t, true, 24*time.Hour), testCertificate(t, false, 10*minRootExpiry)
	for name, test := range map[string]struct {
		wanted SigningCA
		want   string
	}{
		"key alone":     {SigningCA{Key: other.KeyPEM}, "if a signing CA key is provided, the signing CA cert must also be provided"},
		"another's key": {SigningCA{Cert: other.CertPEM, Key: a.next.KeyPEM}, "match root certificate and key"},
		"no PEM":        {SigningCA{Cert: []byte("x")}, "parse root certificate"},
		"two":           {SigningCA{Cert: slices.Concat(other.CertPEM, a.next.CertPEM), Key: other.KeyPEM}, "the desired CA certificate cannot contain multiple certificates"},
		"soon":          {SigningCA{Cert: short}, "CA certificate expires too soon"},
		"no CA":         {SigningCA{Cert: leaf}, "the desired CA certificate is not one of a CA"},
		"the same key":  {sameKey, "Cannot update to a cert with an identical key"},
		"no authority":  {SigningCA{Cert: other.CertPEM}, "there must be at least one valid, reachable external CA corresponding to the desired CA certificate"},
	} {
		if err := a.change(test.wanted, true); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: %v, want %q", name, err, test.want)
		}
	}
	// From one authority to another nobody can endorse the new root.
	_, present := a.authority(a.present)
	_, next := a.authority(a.next)
	a.cluster.Spec.ExternalCAs = []shoal.ExternalCA{present, next}
	a.cluster.RootKey = nil
	if err := a.change(SigningCA{Cert: a.next.CertPEM}, true); err == nil || !strings.Contains(err.Error(), "rotating from one external CA to a different external CA is not supported") {
		t.Error(err)
	}
}

// testCertificate is self-signed.
func testCertificate(t *testing.T, isCA bool, expiry time.Duration) []byte {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "x"}, NotBefore: time.Now().Add(-time.Hour),
		NotAfter: time.Now().Add(expiry), IsCA: isCA, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}

// renewedRoot is another certificate of a root's key.
func renewedRoot(t *testing.T, root *ca.Root) []byte {
	t.Helper()
	cert, err := root.Endorse(root)
	if err != nil {
		t.Fatal(err)
	}
	return cert
}
