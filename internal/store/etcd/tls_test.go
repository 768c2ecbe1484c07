package etcd_test

import (
	"context"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/shoal-dev/shoal/internal/ca"
	"github.com/shoal-dev/shoal/internal/shoal"
	"github.com/shoal-dev/shoal/internal/store"
	"github.com/shoal-dev/shoal/internal/store/etcd"
	"github.com/shoal-dev/shoal/internal/store/storetest"
)

// peerTLS makes the certificate files of a node of a role.
func peerTLS(t *testing.T, root *ca.Root, role shoal.NodeRole) *etcd.TLS {
	t.Helper()
	key, csr, err := ca.NewRequest()
	if err != nil {
		t.Fatal(err)
	}
	cert, err := root.Sign(csr, shoal.NewID[shoal.NodeID](), "cluster", role, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if _, err := ca.SaveIdentity(dir, root.CertPEM, cert, key); err != nil {
		t.Fatal(err)
	}
	return &etcd.TLS{
		CertFile: filepath.Join(dir, ca.CertFile), KeyFile: filepath.Join(dir, ca.KeyFile), CAFile: filepath.Join(dir, ca.RootFile),
		ServerName: ca.ManagerUnit, AllowedName: ca.ManagerUnit,
	}
}

func TestPeersTrustManagersOnly(t *testing.T) {
	root, err := ca.NewRoot()
	if err != nil {
		t.Fatal(err)
	}
	secure := func() string { return strings.Replace(freeURL(t), "http:", "https:", 1) }
	first := start(t, etcd.Config{Dir: t.TempDir(), Name: "n1", PeerURL: secure(), TLS: peerTLS(t, root, shoal.RoleManager)})
	lead(t, first)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()

	u := secure()
	initial, err := first.Add(ctx, "n2", u)
	if err != nil {
		t.Fatal(err)
	}
	short, stop := context.WithTimeout(ctx, 3*time.Second)
	defer stop()
	worker, err := etcd.Start(short, etcd.Config{Dir: t.TempDir(), Name: "n2", PeerURL: u, Initial: initial, TLS: peerTLS(t, root, shoal.RoleWorker)})
	if err == nil {
		worker.Close()
		t.Fatal("a worker's certificate is let in")
	}

	second := start(t, etcd.Config{Dir: t.TempDir(), Name: "n2", PeerURL: u, Initial: initial, TLS: peerTLS(t, root, shoal.RoleManager)})
	if err := first.Promote(ctx, second.ID()); err != nil {
		t.Fatal(err)
	}
	s := storetest.Open(t, second)
	if _, err := s.Commit(ctx, store.Changes{Puts: []store.Object{&shoal.Node{ID: "x"}}}); err != nil {
		t.Fatal(err)
	}
	if s.View().Leader() != first.ID() {
		t.Errorf("leader is %q, want %q", s.View().Leader(), first.ID())
	}
}
