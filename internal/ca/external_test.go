package ca_test

import (
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/shoal-dev/shoal/internal/ca"
	"github.com/shoal-dev/shoal/internal/ca/cfssltest"
	"github.com/shoal-dev/shoal/internal/shoal"
)

// withoutKey is the root as nodes have it.
func withoutKey(t *testing.T, root *ca.Root) *ca.Root {
	t.Helper()
	public, err := ca.ParseRoot(root.CertPEM, nil)
	if err != nil {
		t.Fatal(err)
	}
	return public
}

func newExternal(t *testing.T, root *ca.Root, manager *ca.Identity, urls ...string) *ca.External {
	t.Helper()
	public := withoutKey(t, root)
	return &ca.External{URLs: urls, Root: public, TLS: ca.ExternalTLS(public, manager)}
}

func newRequest(t *testing.T) (key, csr []byte) {
	t.Helper()
	key, csr, err := ca.NewRequest()
	if err != nil {
		t.Fatal(err)
	}
	return key, csr
}

func TestAnExternalAuthoritySignsForNodes(t *testing.T) {
	root := newRoot(t)
	manager := newIdentity(t, root, shoal.RoleManager)
	server := cfssltest.New(t, cfssltest.Listen(t), root)
	broken := httptest.NewTLSServer(http.NotFoundHandler()) // not under a certificate of the root
	t.Cleanup(broken.Close)
	dead := cfssltest.Listen(t)
	if err := dead.Close(); err != nil {
		t.Fatal(err)
	}
	external := newExternal(t, root, manager, "https://"+dead.Addr().String(), broken.URL, server.URL)
	for _, role := range []shoal.NodeRole{shoal.RoleManager, shoal.RoleWorker} {
		key, csr := newRequest(t)
		cert, err := external.Sign(t.Context(), csr, "node", "cluster", role)
		if err != nil {
			t.Fatal(err)
		}
		id, err := ca.SaveIdentity(t.TempDir(), root.CertPEM, cert, key)
		if err != nil {
			t.Fatal(err)
		}
		if id.NodeID() != "node" || id.ClusterID() != "cluster" || id.Role() != role || id.Info().CertIssuerPublicKey == nil {
			t.Errorf("the certificate is for %s %s %s, issuer %q", id.NodeID(), id.ClusterID(), id.Role(), id.Info().CertIssuerPublicKey)
		}
		if at := time.Until(id.RenewAt()); at < time.Minute || at > cfssltest.Expiry/2 {
			t.Errorf("it is renewed in %v, and valid for %v", at, cfssltest.Expiry)
		}
	}
	want := []cfssltest.Request{{Client: string(manager.NodeID()), Subject: "node"}, {Client: string(manager.NodeID()), Subject: "node"}}
	if got := server.Requests(); !slices.Equal(got, want) {
		t.Errorf("asked for %+v", got)
	}
	server.Refuse("the policy forbids it")
	_, csr := newRequest(t)
	_, err := external.Sign(t.Context(), csr, "node", "cluster", shoal.RoleWorker)
	for _, cause := range []string{"unable to perform certificate signing request: ", "connection refused", "certificate signed by unknown authority",
		"unexpected status code in CSR response: 400 - ", "the policy forbids it"} {
		if err == nil || !strings.Contains(err.Error(), cause) {
			t.Errorf("%v\ndoes not say %q", err, cause)
		}
	}
	external.URLs = nil
	if _, err := external.Sign(t.Context(), csr, "node", "cluster", shoal.RoleWorker); !errors.Is(err, ca.ErrNoExternalURLs) {
		t.Error(err)
	}
}

// What an authority sends back may be anything: of another policy, for another node, of another root.
func TestCertificatesOfAnExternalAuthorityAreChecked(t *testing.T) {
	root := newRoot(t)
	manager := newIdentity(t, root, shoal.RoleManager)
	server := cfssltest.New(t, cfssltest.Listen(t), root)
	external := newExternal(t, root, manager, server.URL)
	ask := func(external *ca.External) error {
		_, csr := newRequest(t)
		_, err := external.Sign(t.Context(), csr, "node", "cluster", shoal.RoleWorker)
		return err
	}
	if err := ask(external); err != nil {
		t.Fatal(err)
	}
	for name, alter := range map[string]func(*x509.Certificate){
		"another node":           func(c *x509.Certificate) { c.Subject.CommonName = "other" },
		"another cluster":        func(c *x509.Certificate) { c.Subject.Organization = []string{"other"} },
		"two clusters":           func(c *x509.Certificate) { c.Subject.Organization = []string{"cluster", "other"} },
		"a manager":              func(c *x509.Certificate) { c.Subject.OrganizationalUnit = []string{ca.ManagerUnit} },
		"also a manager":         func(c *x509.Certificate) { c.Subject.OrganizationalUnit = []string{ca.WorkerUnit, ca.ManagerUnit} },
		"a name of the policy's": func(c *x509.Certificate) { c.Subject = pkix.Name{CommonName: "policy"} },
		"no hosts":               func(c *x509.Certificate) { c.DNSNames = nil },
		"a manager among hosts":  func(c *x509.Certificate) { c.DNSNames = append(slices.Clone(c.DNSNames), ca.ManagerUnit) },
		"clients only":           func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth} },
		"servers only":           func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth} },
		"expired":                func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Minute) },
		"a CA":                   func(c *x509.Certificate) { c.IsCA, c.KeyUsage = true, x509.KeyUsageCertSign },
	} {
		server.Alter(alter)
		if err := ask(external); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	server.Alter(nil)
	// The authority's own TLS certificate is of a trusted root, but what it signs is of another one.
	other := newRoot(t)
	rotated, err := ca.ParseRoot(slices.Concat(other.CertPEM, root.CertPEM), nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := ask(&ca.External{URLs: []string{server.URL}, Root: withoutKey(t, other), TLS: ca.ExternalTLS(rotated, manager)}); err == nil {
		t.Error("another root: accepted")
	}
}

// A node without a certificate of the cluster gets nothing from the authority of the tests, as it should be from a real one.
func TestAnExternalAuthorityKnowsManagersByTheirCertificates(t *testing.T) {
	root := newRoot(t)
	server := cfssltest.New(t, cfssltest.Listen(t), root)
	_, csr := newRequest(t)
	if _, err := newExternal(t, root, nil, server.URL).Sign(t.Context(), csr, "node", "cluster", shoal.RoleWorker); err == nil {
		t.Error("accepted")
	}
	if len(server.Requests()) > 0 {
		t.Error("asked")
	}
}

func TestAnExternalAuthorityEndorsesANewRoot(t *testing.T) {
	old, next := newRoot(t), newRoot(t)
	manager := newIdentity(t, old, shoal.RoleManager)
	server := cfssltest.New(t, cfssltest.Listen(t), old)
	external := newExternal(t, old, manager, server.URL)
	endorsement, err := external.Endorse(t.Context(), next)
	if err != nil {
		t.Fatal(err)
	}
	key, csr := newRequest(t)
	cert, err := next.Sign(csr, "node", "cluster", shoal.RoleManager, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	pair, err := tls.X509KeyPair(slices.Concat(cert, endorsement), key)
	if err != nil {
		t.Fatal(err)
	}
	chain := x509.NewCertPool()
	chain.AppendCertsFromPEM(endorsement)
	if _, err := pair.Leaf.Verify(x509.VerifyOptions{Roots: old.Pool(), Intermediates: chain, DNSName: ca.ManagerUnit}); err != nil {
		t.Errorf("who trusts the old root does not trust the new one's certificates: %v", err)
	}
	if got := server.Requests(); len(got) != 1 || got[0].Profile != "CA" {
		t.Errorf("asked for %+v", got)
	}
	for name, alter := range map[string]func(*x509.Certificate){
		"no CA":        func(c *x509.Certificate) { c.ExtraExtensions, c.BasicConstraintsValid = nil, true },
		"another name": func(c *x509.Certificate) { c.Subject.CommonName = "other" },
	} {
		server.Alter(alter)
		if _, err := external.Endorse(t.Context(), next); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

func TestReachOfExternalAuthorities(t *testing.T) {
	root := newRoot(t)
	manager := newIdentity(t, root, shoal.RoleManager)
	server := cfssltest.New(t, cfssltest.Listen(t), root)
	stranger := cfssltest.New(t, cfssltest.Listen(t), newRoot(t), root)
	for _, test := range []struct {
		urls []string
		want string // what the error says; empty for none
	}{
		{[]string{server.URL}, ""},
		{[]string{"http://127.0.0.1:1/", stranger.URL, server.URL}, ""},
		{[]string{stranger.URL}, "unknown authority"},
		{[]string{strings.Replace(server.URL, "https", "http", 1)}, "invalid HTTP scheme"},
		{nil, "no external CA URLs"},
	} {
		err := newExternal(t, root, manager, test.urls...).Reach(t.Context())
		if (err == nil) != (test.want == "") || err != nil && !strings.Contains(err.Error(), test.want) {
			t.Errorf("%q: %v, want %q", test.urls, err, test.want)
		}
	}
}
