package daemon

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"

	"github.com/shoal-dev/shoal/internal/ca"
	"github.com/shoal-dev/shoal/internal/daemon/swarm"
	"github.com/shoal-dev/shoal/internal/membership"
	"github.com/shoal-dev/shoal/internal/shoal"
	"github.com/shoal-dev/shoal/internal/store"
	"github.com/shoal-dev/shoal/internal/store/etcd"
)

// diskWith mounts a file system of so many megabytes, and returns what leaves so many bytes of it free.
func diskWith(t *testing.T, megabytes int) (dir string, leave func(free uint64)) {
	t.Helper()
	dir = t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, fmt.Sprintf("size=%dm", megabytes)); err != nil {
		t.Skipf("a file system cannot be mounted here: %v", err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	filler, err := os.Create(filepath.Join(dir, "filler"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = filler.Close() })
	return dir, func(free uint64) {
		t.Helper()
		if err := filler.Truncate(0); err != nil {
			t.Fatal(err)
		}
		var fs unix.Statfs_t
		if err := unix.Statfs(dir, &fs); err != nil {
			t.Fatal(err)
		}
		if used := int64(fs.Bavail*uint64(fs.Bsize)) - int64(free); used > 0 {
			if err := unix.Fallocate(int(filler.Fd()), 0, 0, used); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// A sole manager that was restarted on a full disk answered every question about the cluster with an error, until there was room.
func TestASoleManagerStartsOnAFullDiskAndShowsItsState(t *testing.T) {
	disk, leave := diskWith(t, 300)
	leave(250 << 20)
	config := managerOn(t, disk)
	host := swarm.New(swarm.Config{
		Log: slog.New(slog.DiscardHandler),
		StartMember: func(ctx context.Context, _ membership.ManagerConfig) (swarm.Member, error) {
			return startOrRead(ctx, etcd.Config{
				Dir: filepath.Join(disk, "store"), Name: "n1", PeerURL: config.url, HeartbeatMs: 10, ElectionMs: 100, MinFree: 64 << 20,
			})
		},
		Listen: func(string) (net.Listener, error) { return net.Listen("tcp", "127.0.0.1:0") },
	})
	start := func() membership.Manager {
		t.Helper()
		m, err := host.StartManager(t.Context(), config.ManagerConfig)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(m.Stop)
		return m
	}
	put := func(m membership.Manager, name string) error {
		var changes store.Changes
		changes.Put(&shoal.Service{ID: shoal.ServiceID(name), Spec: shoal.ServiceSpec{Name: name}})
		_, err := m.Store().Commit(t.Context(), changes)
		return err
	}
	config.Found = true
	first := start()
	for _, name := range []string{"web", "gone"} {
		if err := put(first, name); err != nil {
			t.Fatal(err)
		}
	}
	var changes store.Changes
	changes.Delete(first.Store().View().ServiceByName("gone"))
	if _, err := first.Store().Commit(t.Context(), changes); err != nil {
		t.Fatal(err)
	}
	version := first.Store().View().ServiceByName("web").Version
	first.Stop()
	config.Found = false
	for _, free := range []uint64{5 << 20, 0} {
		leave(free)
		began := time.Now()
		m := start()
		if took := time.Since(began); took > 5*time.Second {
			t.Errorf("with %d bytes free it starts in %v", free, took)
		}
		view := m.Store().View()
		if web := view.ServiceByName("web"); web == nil || web.Version != version || len(view.Services()) != 1 {
			t.Errorf("with %d bytes free it shows %+v", free, view.Services())
		}
		if err := put(m, "more"); !errdefs.IsUnavailable(err) || !strings.Contains(err.Error(), "are free on the disk of") {
			t.Errorf("with %d bytes free a change ends with %v", free, err)
		}
		if problems := strings.Join(m.Problems(), "\n"); !strings.Contains(problems, "as it was last") {
			t.Errorf("problems: %s", problems)
		}
		if free > 0 {
			m.Stop()
			continue
		}
		leave(250 << 20)
		select {
		case <-m.Done():
		case <-time.After(time.Minute):
			t.Fatal("there is room again, and it goes on as it is")
		}
		if err := m.Err(); err != nil {
			t.Errorf("it has stopped because of %v", err)
		}
		m.Stop()
	}
	last := start()
	if err := put(last, "more"); err != nil {
		t.Errorf("there is room again: %v", err)
	}
}

// managerConfig is that of a sole manager whose store is at url.
type managerConfig struct {
	membership.ManagerConfig
	url string
}

func managerOn(t *testing.T, dir string) *managerConfig {
	t.Helper()
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
	identity, err := ca.SaveIdentity(filepath.Join(dir, "certificates"), root.CertPEM, cert, key)
	if err != nil {
		t.Fatal(err)
	}
	loopback := netip.MustParseAddr("127.0.0.1")
	urls := &etcdMachines{t: t, urls: map[string]string{}}
	return &managerConfig{url: urls.PeerURL("n1"), ManagerConfig: membership.ManagerConfig{
		Identity: identity, Dir: dir, SealingKey: store.NewKey(),
		State: membership.State{AdvertiseAddr: loopback, Port: "12377", ListenAddr: netip.AddrPortFrom(loopback, 12377)},
	}}
}
