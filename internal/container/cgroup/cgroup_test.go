package cgroup

import (
	"os"
	"path/filepath"
	"testing"
)

func TestNumbersAreRead(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	stat := write("memory.events", "low 0\noom 3\noom_kill 2\n")
	for name, want := range map[string]uint64{"oom_kill": 2, "oom": 3, "oom_kil": 0} {
		if got := readCounter(stat, name); got != want {
			t.Errorf("%s: %d", name, got)
		}
	}
	for text, want := range map[string]uint64{"42\n": 42, "max\n": 0, "": 0} {
		if got := readNumber(write("number", text)); got != want {
			t.Errorf("%q: %d", text, got)
		}
	}
	if got := readNumber(filepath.Join(dir, "absent")) + readCounter(filepath.Join(dir, "absent"), "oom"); got != 0 {
		t.Errorf("without a file: %d", got)
	}
}

func TestACgroupThatDoesNotExistUsesNothing(t *testing.T) {
	if u := ReadUsage("/shoal-no-such"); u != (Usage{}) || OOMKilled("/shoal-no-such") {
		t.Errorf("%+v", u)
	}
	Remove("/shoal-no-such")
}
