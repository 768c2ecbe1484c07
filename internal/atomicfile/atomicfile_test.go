package atomicfile

import (
	"os"
	"path/filepath"
	"testing"
)

func TestWriteReplacesTheWholeContent(t *testing.T) {
	path := filepath.Join(t.TempDir(), "record.json")
	// The rest of a write that was cut off by a crash, longer than what follows.
	if err := os.WriteFile(path+newSuffix, []byte("half a record, cut of"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, content := range []string{"the first content", "short"} {
		if err := Write(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		if got, err := os.ReadFile(path); err != nil || string(got) != content {
			t.Errorf("got %q, %v, want %q", got, err, content)
		}
	}
	entries, err := os.ReadDir(filepath.Dir(path))
	if err != nil || len(entries) != 1 {
		t.Errorf("left in the directory: %v, %v", entries, err)
	}
}

func TestFailedWriteKeepsThePreviousContent(t *testing.T) {
	path := filepath.Join(t.TempDir(), "record.json")
	if err := WriteJSON(path, map[string]int{"a": 1}, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := WriteJSON(path, func() {}, 0o600); err == nil {
		t.Error("a function was encoded")
	}
	if err := os.Mkdir(path+newSuffix, 0o700); err != nil { // the second file cannot be made
		t.Fatal(err)
	}
	if err := Write(path, []byte("{}"), 0o600); err == nil {
		t.Error("a file was written over a directory")
	}
	if got, err := os.ReadFile(path); err != nil || string(got) != `{"a":1}` {
		t.Errorf("got %q, %v", got, err)
	}
}
