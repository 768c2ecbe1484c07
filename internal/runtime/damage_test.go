package runtime

import (
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"testing"
)

// A database of containerd that is no database any more panicked the daemon at every start.
func TestADamagedDatabaseIsSetAside(t *testing.T) {
	dir := t.TempDir()
	var aside []string
	c := Config{
		Log: slog.New(slog.DiscardHandler), Root: filepath.Join(dir, "root"), State: filepath.Join(dir, "state"),
		SetAside: func(path string, _ error) error {
			aside = append(aside, filepath.Base(path))
			return os.Rename(path, filepath.Join(dir, filepath.Base(path)))
		},
	}
	start := func() {
		t.Helper()
		rt, err := Start(t.Context(), c)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := rt.Client.ListImages(WithNamespace(t.Context())); err != nil {
			t.Error(err)
		}
		if err := rt.Close(); err != nil {
			t.Error(err)
		}
	}
	start()
	meta := filepath.Join(c.Root, "io.containerd.metadata.v1.bolt", "meta.db")
	good, err := os.ReadFile(meta)
	if err != nil {
		t.Fatal(err)
	}
	const page = 4096
	if err := os.WriteFile(meta, append(make([]byte, 2*page), good[2*page:]...), 0o600); err != nil { // both pages that begin it are lost
		t.Fatal(err)
	}
	start()
	if !slices.Contains(aside, "io.containerd.metadata.v1.bolt") || !slices.Contains(aside, "io.containerd.snapshotter.v1.overlayfs") {
		t.Errorf("set aside: %v", aside)
	}
	aside = nil
	start()
	if aside != nil {
		t.Errorf("set aside again: %v", aside)
	}
	if _, err := Start(t.Context(), Config{Log: c.Log, Root: meta, State: c.State}); err == nil || errors.Is(err, os.ErrNotExist) {
		t.Errorf("a root that is a file: %v", err)
	}
}
