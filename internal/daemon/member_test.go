package daemon

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"path/filepath"
	"testing"
	"time"

	"github.com/shoal-dev/shoal/internal/ca"
	"github.com/shoal-dev/shoal/internal/daemon/swarm"
	"github.com/shoal-dev/shoal/internal/daemon/swarm/membertest"
	"github.com/shoal-dev/shoal/internal/membership"
	"github.com/shoal-dev/shoal/internal/shoal"
	"github.com/shoal-dev/shoal/internal/store"
	"github.com/shoal-dev/shoal/internal/store/etcd"
)

// etcdMachines runs etcd members side by side on loopback ports.
type etcdMachines struct {
	t    *testing.T
	dir  string
	urls map[string]string
}

func (m *etcdMachines) PeerURL(name string) string {
	if m.urls[name] == "" {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			m.t.Fatal(err)
		}
		defer func() { _ = l.Close() }()
		m.urls[name] = "http://" + l.Addr().String()
	}
	return m.urls[name]
}

func (m *etcdMachines) Start(ctx context.Context, name string, initial map[string]string) (swarm.Member, error) {
	member, err := etcd.Start(ctx, etcd.Config{Dir: filepath.Join(m.dir, name), Name: name, PeerURL: m.PeerURL(name), Initial: initial})
	if err != nil {
		return nil, err
	}
	return storeMember{member}, nil
}

func TestEtcdMembers(t *testing.T) {
	membertest.Run(t, func(t *testing.T, test func(*testing.T, membertest.Machines)) {
		test(t, &etcdMachines{t: t, dir: t.TempDir(), urls: map[string]string{}})
	})
}

// A manager that was demoted and promoted again at once once found its folder empty and founded a store of its own, which spoke to the others' members.
func TestAManagerWithoutItsDataFoundsNoStore(t *testing.T) {
	root, err := ca.NewRoot()
	if err != nil {
		t.Fatal(err)
	}
	key, csr, err := ca.NewRequest()
	if err != nil {
		t.Fatal(err)
	}
	cert, err := root.Sign(csr, "n1", "cluster", shoal.RoleManager, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	identity, err := ca.SaveIdentity(t.TempDir(), root.CertPEM, cert, key)
	if err != nil {
		t.Fatal(err)
	}
	loopback := netip.MustParseAddr("127.0.0.1")
	member, err := startMember(t.Context(), slog.New(slog.DiscardHandler), membership.ManagerConfig{
		Identity: identity, Dir: t.TempDir(), State: membership.State{AdvertiseAddr: loopback, Port: "12377", ListenAddr: netip.AddrPortFrom(loopback, 12377)},
	})
	if err == nil {
		member.Close()
	}
	if !errors.Is(err, store.ErrNoData) {
		t.Errorf("it starts with %v", err)
	}
}
