package atomicfile

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
)

// Whatever step fails, readers find the old content or the new, whole, and nothing else lies about.
func TestEveryStepMayFail(t *testing.T) {
	broken := errors.New("input/output error")
	for _, at := range []Step{StepCreate, StepWrite, StepFlush, StepRename, StepFlushDir} {
		t.Run(string(at), func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "record")
			if err := Write(path, []byte("the old content"), 0o600); err != nil {
				t.Fatal(err)
			}
			defer SetFailpoint(filepath.Dir(path), func(s Step, _ string) error {
				if s == at {
					return broken
				}
				return nil
			})()
			err := Write(path, []byte("new"), 0o600)
			if !errors.Is(err, broken) {
				t.Errorf("got %v", err)
			}
			want := "the old content"
			if at == StepFlushDir { // it is there, but a loss of power may undo it
				want = "new"
			}
			if got, err := os.ReadFile(path); err != nil || string(got) != want {
				t.Errorf("got %q, %v, want %q", got, err, want)
			}
			if entries, err := os.ReadDir(filepath.Dir(path)); err != nil || len(entries) != 1 {
				t.Errorf("left behind: %v, %v", entries, err)
			}
		})
	}
}

// The order is what makes a record outlive a loss of power: content before name, name before the answer to the caller.
func TestContentIsFlushedBeforeItGetsItsName(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "a", "b", "record")
	var steps []Step
	defer SetFailpoint(dir, func(s Step, _ string) error {
		steps = append(steps, s)
		return nil
	})()
	if err := Mkdir(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	if len(steps) != 4 { // two folders were made, and each is an entry of the one above it
		t.Errorf("%v", steps)
	}
	steps = nil
	if err := Write(path, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	want := []Step{StepCreate, StepWrite, StepFlush, StepRename, StepFlushDir}
	if len(steps) != len(want) {
		t.Fatalf("got %v, want %v", steps, want)
	}
	for i := range want {
		if steps[i] != want[i] {
			t.Errorf("got %v, want %v", steps, want)
		}
	}
}

func TestMalformedIsNotUnreadable(t *testing.T) {
	dir := t.TempDir()
	for content, malformed := range map[string]bool{"": true, `{"a":`: true, "[]": true, `{"a":1}`: false} {
		path := filepath.Join(dir, "record")
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := ReadJSON(path, &map[string]int{}); errors.Is(err, ErrMalformed) != malformed {
			t.Errorf("%q: %v", content, err)
		}
	}
	if err := ReadJSON(dir, &map[string]int{}); err == nil || errors.Is(err, ErrMalformed) {
		t.Errorf("a folder: %v", err)
	}
	if err := ReadJSON(filepath.Join(dir, "none"), &map[string]int{}); !errors.Is(err, os.ErrNotExist) || errors.Is(err, ErrMalformed) {
		t.Errorf("no file: %v", err)
	}
}
