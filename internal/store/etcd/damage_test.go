package etcd_test

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/shoal-dev/shoal/internal/store"
	"github.com/shoal-dev/shoal/internal/store/etcd"
)

// Where etcd finds its files damaged it ends the process, with its files locked and its port open. A start must fail instead, say that this is damage, and leave
// nothing behind, so that another member can be started in its place.
func TestDamagedFilesAreToldFromOtherErrors(t *testing.T) {
	for name, spoil := range map[string]func(path string) error{
		"a changed log":      func(path string) error { return overwrite(filepath.Join(path, "wal", "*.wal"), 700) },
		"a changed database": func(path string) error { return overwrite(filepath.Join(path, "snap", "db"), 0) },
		"a log cut off":      func(path string) error { return truncate(filepath.Join(path, "wal", "*.wal"), 10) },
	} {
		t.Run(name, func(t *testing.T) {
			cfg := etcd.Config{Dir: t.TempDir(), Name: "n1", PeerURL: freeURL(t), HeartbeatMs: 10, ElectionMs: 100}
			m := start(t, cfg)
			for range 20 {
				if _, err := m.Txn(t.Context(), 0, []store.Op{{Key: store.Prefix + "x", Value: make([]byte, 1000), If: store.AnyRevision}}); err != nil {
					t.Fatal(err)
				}
			}
			m.Close()
			if err := spoil(filepath.Join(cfg.Dir, "member")); err != nil {
				t.Fatal(err)
			}
			for range 2 {
				ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
				defer cancel()
				if m, err := etcd.Start(ctx, cfg); !errors.Is(err, store.ErrDamaged) {
					if err == nil {
						m.Close()
					}
					t.Fatalf("it starts with %v", err)
				}
			}
			fresh := cfg
			fresh.Dir = t.TempDir()
			start(t, fresh) // at the same port
		})
	}
}

func overwrite(pattern string, at int64) error {
	return each(pattern, func(f *os.File) error {
		_, err := f.WriteAt(bytes.Repeat([]byte("damage"), 1500), at)
		return err
	})
}

func truncate(pattern string, size int64) error {
	return each(pattern, func(f *os.File) error { return f.Truncate(size) })
}

func each(pattern string, do func(*os.File) error) error {
	paths, err := filepath.Glob(pattern)
	if err != nil {
		return err
	}
	for _, path := range paths {
		f, err := os.OpenFile(path, os.O_WRONLY, 0)
		if err != nil {
			return err
		}
		if err := errors.Join(do(f), f.Close()); err != nil {
			return err
		}
	}
	return nil
}
