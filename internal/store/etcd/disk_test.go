package etcd_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"

	"github.com/shoal-dev/shoal/internal/store"
	"github.com/shoal-dev/shoal/internal/store/etcd"
)

// smallDisk mounts a file system of a size for one test.
func smallDisk(t *testing.T, megabytes int) string {
	t.Helper()
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, fmt.Sprintf("size=%dm", megabytes)); err != nil {
		t.Skipf("a file system cannot be mounted here: %v", err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	return dir
}

// fill leaves a file system with so many bytes free, and returns what frees them again.
func fill(t *testing.T, dir string, free uint64) (empty func()) {
	t.Helper()
	path := filepath.Join(dir, "filler")
	file, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	var size int64
	until(t, "the disk is full", func() bool { // etcd takes space meanwhile
		var fs unix.Statfs_t
		if err := unix.Statfs(dir, &fs); err != nil {
			t.Fatal(err)
		}
		left := int64(fs.Bavail*uint64(fs.Bsize)) - int64(free)
		if left > 0 && unix.Fallocate(int(file.Fd()), 0, size, left) == nil {
			size += left
		}
		return left <= 0
	})
	return func() {
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
	}
}

// logBuffer collects what is logged.
type logBuffer struct {
	mu   sync.Mutex // guards text
	text bytes.Buffer
}

func (b *logBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.Write(p)
}

func (b *logBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.String()
}

func until(t *testing.T, what string, holds func() bool) {
	t.Helper()
	deadline := time.Now().Add(time.Minute)
	for !holds() {
		if time.Now().After(deadline) {
			t.Fatalf("never: %s", what)
		}
		<-time.After(20 * time.Millisecond)
	}
}

// A full disk once ended the daemon without a word, and with it the API, DNS and the readers of logs.
func TestAFullDiskStopsTheMemberAndNothingElse(t *testing.T) {
	disk := smallDisk(t, 260)
	out := &logBuffer{}
	cfg := etcd.Config{
		Dir: filepath.Join(disk, "store"), Name: "n1", PeerURL: freeURL(t), HeartbeatMs: 10, ElectionMs: 100,
		MinFree: 1, Log: slog.New(slog.NewTextHandler(out, nil)),
	}
	m := start(t, cfg)
	lead(t, m)
	value := bytes.Repeat([]byte("x"), 256<<10)
	written := 0
	write := func(m *etcd.Member) error {
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		defer cancel()
		_, err := m.Txn(ctx, 0, []store.Op{{Key: fmt.Sprint(store.Prefix, "k", written), Value: value, If: store.AnyRevision}})
		if err == nil {
			written++
		}
		return err
	}
	for range 10 {
		if err := write(m); err != nil {
			t.Fatal(err)
		}
	}
	empty := fill(t, disk, 0)
	for write(m) == nil {
		if written > 1000 {
			t.Fatal("the disk is never full")
		}
	}
	select {
	case <-m.Done():
	case <-time.After(time.Minute):
		t.Fatal("a member that cannot write has not stopped")
	}
	if err := m.Err(); !errors.Is(err, syscall.ENOSPC) || !strings.Contains(strings.Join(m.Problems(), "\n"), "no space left on device") {
		t.Errorf("it stopped because of %v; problems %q", err, m.Problems())
	}
	if !strings.Contains(out.String(), "no space left on device") {
		t.Errorf("logged:\n%s", out)
	}
	m.Close()
	m.Close() // once panicked
	empty()
	again := start(t, cfg)
	records, _, err := again.Load(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]bool{}
	for _, r := range records {
		found[r.Key] = bytes.Equal(r.Value, value)
	}
	for i := range written {
		if !found[fmt.Sprint(store.Prefix, "k", i)] {
			t.Errorf("write %d of %d was acknowledged and is lost", i, written)
		}
	}
	lead(t, again)
	if err := write(again); err != nil {
		t.Error(err)
	}
}

func TestANearlyFullDiskRefusesWritesInWords(t *testing.T) {
	disk := smallDisk(t, 300)
	cfg := etcd.Config{Dir: filepath.Join(disk, "store"), Name: "n1", PeerURL: freeURL(t), MinFree: 64 << 20}
	first := start(t, cfg)
	lead(t, first)
	put := func(m *etcd.Member) error {
		_, err := m.Txn(t.Context(), 0, []store.Op{{Key: store.Prefix + "x", Value: []byte("y"), If: store.AnyRevision}})
		return err
	}
	if err := put(first); err != nil {
		t.Fatal(err)
	}
	empty := fill(t, disk, 32<<20)
	until(t, "writes are refused", func() bool { return put(first) != nil })
	if err := put(first); !errdefs.IsUnavailable(err) || !strings.Contains(err.Error(), "are free on the disk of "+cfg.Dir) || len(first.Problems()) != 1 {
		t.Errorf("refused with %v; problems %q", err, first.Problems())
	}
	if _, _, err := first.Load(t.Context()); err != nil {
		t.Errorf("reading ends with %v", err)
	}
	if _, leads, _ := first.Leader(); !leads {
		t.Error("the only member does not lead any more")
	}
	empty()
	until(t, "writes are accepted again", func() bool { return put(first) == nil })
	if len(first.Problems()) != 0 {
		t.Errorf("problems %q", first.Problems())
	}

	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	u := freeURL(t)
	initial, err := first.Add(ctx, "n2", u)
	if err != nil {
		t.Fatal(err)
	}
	second := start(t, etcd.Config{Dir: t.TempDir(), Name: "n2", PeerURL: u, Initial: initial, MinFree: 1})
	if err := first.Promote(ctx, second.ID()); err != nil {
		t.Fatal(err)
	}
	defer fill(t, disk, 32<<20)()
	lead(t, second)
	if err := put(second); err != nil {
		t.Errorf("the manager with room refuses a write: %v", err)
	}
}

// A member that was started on a nearly full disk allocated 64 MiB for the next part of its log at once; where that failed, ext4 left it no room at all.
func TestAMemberThatStartsOnANearlyFullDiskLeavesWhatThereIs(t *testing.T) {
	disk := smallDisk(t, 350)
	cfg := etcd.Config{Dir: filepath.Join(disk, "store"), Name: "n1", PeerURL: freeURL(t), HeartbeatMs: 10, ElectionMs: 100, MinFree: 100 << 20}
	put := func(m *etcd.Member) error {
		_, err := m.Txn(t.Context(), 0, []store.Op{{Key: store.Prefix + "x", Value: []byte("y"), If: store.AnyRevision}})
		return err
	}
	left := func() uint64 {
		var fs unix.Statfs_t
		if err := unix.Statfs(disk, &fs); err != nil {
			t.Fatal(err)
		}
		return fs.Bavail * uint64(fs.Bsize)
	}
	first := start(t, cfg)
	if err := put(first); err != nil {
		t.Fatal(err)
	}
	first.Close()
	const before, database = 80 << 20, 20 << 20 // a file system in memory fills the holes of a database that is mapped
	empty := fill(t, disk, before)
	for range 2 { // closed while it is held back, it leaves nothing behind
		m := start(t, cfg)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- m.Run(ctx) }()
		until(t, "writes are refused", func() bool { return put(m) != nil })
		if now := left(); now < before-database {
			t.Errorf("of %d bytes it has left %d", before, now)
		}
		if _, _, err := m.Load(t.Context()); err != nil {
			t.Error(err)
		}
		cancel()
		<-done //nolint:errcheck // ended by cancel
		began := time.Now()
		m.Close()
		if took := time.Since(began); took > 5*time.Second {
			t.Errorf("closing takes %v", took)
		}
		if now := left(); now < before-database {
			t.Errorf("of %d bytes it has left %d when it has stopped", before, now)
		}
	}
	last := start(t, cfg)
	lead(t, last)
	empty()
	free := left()
	until(t, "the next part is allocated", func() bool { return left() < free-50<<20 })
	until(t, "writes are taken", func() bool { return put(last) == nil })
}

// Without compaction, defragmentation and the end of alarms, a store that was once full stays so for good.
func TestAStoreThatWasFullTakesWritesAgain(t *testing.T) {
	m := start(t, etcd.Config{
		Dir: t.TempDir(), Name: "n1", PeerURL: freeURL(t), HeartbeatMs: 10, ElectionMs: 100, MinFree: 1, Quota: 16 << 20,
		MaintenanceInterval: time.Second,
	})
	lead(t, m)
	value := bytes.Repeat([]byte("x"), 1<<20)
	put := func() error {
		_, err := m.Txn(t.Context(), 0, []store.Op{{Key: store.Prefix + "x", Value: value, If: store.AnyRevision}})
		return err
	}
	refused := 0
	for range 40 {
		if put() != nil {
			refused++
		}
	}
	if refused == 0 {
		t.Fatal("the quota has no effect")
	}
	value = []byte("small")
	until(t, "writes are taken again", func() bool { return put() == nil })
	until(t, "no alarm is left", func() bool { return len(m.Problems()) == 0 })
}
