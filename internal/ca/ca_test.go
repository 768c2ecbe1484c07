package ca_test

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"io"
	"net"
	"regexp"
	"testing"
	"time"

	"github.com/shoal-dev/shoal/internal/ca"
	"github.com/shoal-dev/shoal/internal/shoal"
)

func newIdentity(t *testing.T, root *ca.Root, role shoal.NodeRole) *ca.Identity {
	t.Helper()
	key, csr, err := ca.NewRequest()
	if err != nil {
		t.Fatal(err)
	}
	cert, err := root.Sign(csr, shoal.NewID[shoal.NodeID](), "cluster", role, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	id, err := ca.SaveIdentity(t.TempDir(), root.CertPEM, cert, key)
	if err != nil {
		t.Fatal(err)
	}
	return id
}

func newRoot(t *testing.T) *ca.Root {
	t.Helper()
	root, err := ca.NewRoot()
	if err != nil {
		t.Fatal(err)
	}
	return root
}

func TestTokenCarriesTheRootsDigest(t *testing.T) {
	root := newRoot(t)
	text, err := ca.NewToken(root)
	if err != nil {
		t.Fatal(err)
	}
	if !regexp.MustCompile(`^SWMTKN-1-[0-9a-z]{50}-[0-9a-z]{25}$`).MatchString(text) {
		t.Errorf("token %q does not have Docker's shape", text)
	}
	token, err := ca.ParseToken(text)
	if err != nil {
		t.Fatal(err)
	}
	if token.Digest != root.Digest() {
		t.Error("the token's digest is not the root's")
	}
}

func TestBadTokensAreRefused(t *testing.T) {
	for _, text := range []string{"", "SWMTKN-1-bad", "SWMTKN-2-" + string(make([]byte, 50)) + "-x", "x-1-2-3"} {
		if _, err := ca.ParseToken(text); err == nil {
			t.Errorf("ParseToken(%q) accepted it", text)
		}
	}
}

func TestIdentitySurvivesALoad(t *testing.T) {
	id := newIdentity(t, newRoot(t), shoal.RoleManager)
	again, err := ca.LoadIdentity(id.Dir(), nil)
	if err != nil {
		t.Fatal(err)
	}
	if again.NodeID() != id.NodeID() || again.Role() != shoal.RoleManager || again.ClusterID() != "cluster" {
		t.Errorf("loaded %s %s %s", again.NodeID(), again.Role(), again.ClusterID())
	}
}

func TestSignIgnoresWhatTheRequestClaims(t *testing.T) {
	root := newRoot(t)
	id := newIdentity(t, root, shoal.RoleWorker)
	if ca.RoleOf(id.Certificate()) != shoal.RoleWorker {
		t.Error("a worker's certificate says manager")
	}
	if _, err := id.Certificate().Verify(x509.VerifyOptions{Roots: root.Pool(), DNSName: ca.ManagerUnit}); err == nil {
		t.Error("a worker's certificate passes for a manager's")
	}
}

func TestHandshake(t *testing.T) {
	root, other := newRoot(t), newRoot(t)
	manager := newIdentity(t, root, shoal.RoleManager)
	for _, tc := range []struct {
		name string
		tls  *tls.Config
		ok   bool
	}{
		{"a worker of the cluster", newIdentity(t, root, shoal.RoleWorker).ClientTLS(), true},
		{"a joining node", ca.JoinTLS(root), true},
		{"a node of another cluster", newIdentity(t, other, shoal.RoleWorker).ClientTLS(), false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if err := handshake(manager.ServerTLS(), tc.tls); (err == nil) != tc.ok {
				t.Errorf("handshake: %v", err)
			}
		})
	}
	if err := handshake(newIdentity(t, root, shoal.RoleWorker).ServerTLS(), ca.JoinTLS(root)); err == nil {
		t.Error("a worker can pose as a manager")
	}
}

func handshake(server, client *tls.Config) error {
	a, b := net.Pipe()
	defer func() { _, _ = a.Close(), b.Close() }()
	go func() {
		s := tls.Server(a, server)
		_ = s.Handshake()
		_, _ = s.Write([]byte("x"))
	}()
	c := tls.Client(b, client)
	if err := c.Handshake(); err != nil {
		return err
	}
	_, err := io.ReadFull(c, make([]byte, 1))
	return err
}

func TestParseRootRefusesAForeignKey(t *testing.T) {
	a, b := newRoot(t), newRoot(t)
	if _, err := ca.ParseRoot(a.CertPEM, b.KeyPEM); err == nil {
		t.Error("a root with another root's key was accepted")
	}
	if block, _ := pem.Decode(a.CertPEM); block == nil {
		t.Error("the root is not PEM")
	}
}
