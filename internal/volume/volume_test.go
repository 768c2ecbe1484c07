package volume

import (
	"log/slog"
	"os"
	"path/filepath"
	"testing"

	"github.com/containerd/errdefs"

	"github.com/shoal-dev/shoal/internal/events"
)

func open(t *testing.T, dir string) *Store {
	t.Helper()
	s, err := New(Config{Log: slog.New(slog.NewTextHandler(t.Output(), nil)), Root: dir, Events: &events.Bus{}})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestVolumesOutliveTheDaemon(t *testing.T) {
	dir := t.TempDir()
	v, err := open(t, dir).Create(Spec{Name: "data", Labels: map[string]string{"a": "b"}})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(v.Mountpoint, "f"), []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	again, err := open(t, dir).Get("data")
	if err != nil || again.Labels["a"] != "b" || Size(again) != 1 {
		t.Errorf("%+v, %v", again, err)
	}
}

func TestHeldVolumeIsNotRemoved(t *testing.T) {
	s := open(t, t.TempDir())
	for _, name := range []string{"held", ""} {
		v, err := s.Create(Spec{Name: name})
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Hold(v.Name, "c1"); err != nil {
			t.Fatal(err)
		}
		if err := s.Remove(v.Name, true); !errdefs.IsConflict(err) {
			t.Errorf("remove: %v", err)
		}
		if removed, _, err := s.Prune(true, nil); err != nil || len(removed) != 0 {
			t.Errorf("prune: %v, %v", removed, err)
		}
		s.Release(v.Name, "c1")
		if err := s.Remove(v.Name, false); err != nil {
			t.Error(err)
		}
	}
}

func TestBadRequestsAreRefused(t *testing.T) {
	s := open(t, t.TempDir())
	for _, spec := range []Spec{{Name: "a/b"}, {Name: "x", Driver: "nfs"}, {Name: "x", Options: map[string]string{"bad": "1"}}, {Name: "x", Options: map[string]string{"type": "nfs"}}} {
		if _, err := s.Create(spec); err == nil {
			t.Errorf("%+v was accepted", spec)
		}
	}
}
