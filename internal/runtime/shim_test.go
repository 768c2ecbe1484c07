package runtime

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// On a disk that was full no exec and no health check worked: the file that tells runc of the process was written to /tmp.
func TestAFullDiskIsInNoExecsWay(t *testing.T) {
	dir, state := t.TempDir(), t.TempDir()
	shim, told := filepath.Join(dir, ownShim), filepath.Join(state, "told")
	// The shim's directory for such files is what go-runc finds in its environment.
	if err := os.WriteFile(shim, []byte("#!/bin/sh\necho \"$XDG_RUNTIME_DIR\" >told.new && mv told.new told\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	rt := &Runtime{Shim: shim, state: state, socketDir: dir}
	s, err := rt.StartShim("x")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Kill)
	for deadline := time.Now().Add(10 * time.Second); ; {
		text, err := os.ReadFile(told)
		if err == nil {
			if got := strings.TrimSpace(string(text)); got != state {
				t.Errorf("files for runc are written to %q, not below the exec root (%q)", got, state)
			}
			return
		}
		if time.Now().After(deadline) {
			t.Fatal(err)
		}
		<-time.After(10 * time.Millisecond)
	}
}
