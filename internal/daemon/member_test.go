package daemon

import (
	"context"
	"net"
	"path/filepath"
	"testing"

	"github.com/shoal-dev/shoal/internal/daemon/swarm"
	"github.com/shoal-dev/shoal/internal/daemon/swarm/membertest"
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
