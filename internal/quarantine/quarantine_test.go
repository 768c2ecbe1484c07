package quarantine

import (
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/shoal-dev/shoal/internal/events"
)

func TestWhatIsSetAsideIsKeptAndListed(t *testing.T) {
	dir, bus := t.TempDir(), &events.Bus{}
	folder := filepath.Join(dir, "containers", "c1")
	file := filepath.Join(dir, "network", "n1.json")
	for _, path := range []string{folder, filepath.Dir(file)} {
		if err := os.MkdirAll(path, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	for path, content := range map[string]string{filepath.Join(folder, "log"): "a line", file: "half a rec"} {
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	q := Open(filepath.Join(dir, "quarantine"), slog.New(slog.DiscardHandler), bus)
	if q.Items() != nil {
		t.Error("it is not empty at first")
	}
	for _, path := range []string{folder, file} {
		if err := q.SetAside(path, errors.New("unexpected end of JSON input")); err != nil {
			t.Fatal(err)
		}
		if _, err := os.Stat(path); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s is still there: %v", path, err)
		}
	}
	for range 2 { // also after a restart of the daemon
		items := q.Items()
		if len(items) != 2 || items[0].Path != folder || items[1].Path != file {
			t.Fatalf("%+v", items)
		}
		if content, err := os.ReadFile(filepath.Join(items[0].Now, "log")); err != nil || string(content) != "a line" {
			t.Errorf("%q, %v", content, err)
		}
		if content, err := os.ReadFile(items[1].Now); err != nil || string(content) != "half a rec" {
			t.Errorf("%q, %v", content, err)
		}
		if got := q.Problems()[1]; !strings.Contains(got, file) || !strings.Contains(got, "unexpected end of JSON input") || !strings.Contains(got, items[1].Now) {
			t.Error(got)
		}
		q = Open(filepath.Join(dir, "quarantine"), slog.New(slog.DiscardHandler), bus)
	}
	if err := os.RemoveAll(filepath.Dir(q.Items()[0].Now)); err != nil {
		t.Fatal(err)
	}
	if items := q.Items(); len(items) != 1 || items[0].Path != file {
		t.Errorf("after the operator has removed one: %+v", items)
	}
}

func TestWhatCannotBeSetAsideStays(t *testing.T) {
	dir := t.TempDir()
	blocked := filepath.Join(dir, "quarantine")
	for _, path := range []string{blocked, filepath.Join(dir, "record")} {
		if err := os.WriteFile(path, []byte("x"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	q := Open(blocked, slog.New(slog.DiscardHandler), &events.Bus{})
	if err := q.SetAside(filepath.Join(dir, "record"), errors.New("malformed")); err == nil {
		t.Error("it was set aside into a file")
	}
	if _, err := os.Stat(filepath.Join(dir, "record")); err != nil || len(q.Items()) != 0 {
		t.Errorf("%v, %+v", err, q.Items())
	}
}
