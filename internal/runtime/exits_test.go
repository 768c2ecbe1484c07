package runtime

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestExitRecordsAreReadFromTheBundlesThatHaveOne(t *testing.T) {
	state := t.TempDir()
	for id, record := range map[string]string{
		"ended":   `{"Timestamp":"2026-01-02T03:04:05Z","Pid":7,"Status":137}`,
		"cut-off": `{"Timestamp":"2026-01-0`,
		"running": "",
	} {
		bundle := filepath.Join(state, tasksDir, Namespace, id)
		if err := os.MkdirAll(bundle, 0o700); err != nil {
			t.Fatal(err)
		}
		if record == "" {
			continue
		}
		if err := os.WriteFile(filepath.Join(bundle, "exit.json"), []byte(record), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	exits, err := readExits(state, func(string) bool { return false })
	if err != nil {
		t.Fatal(err)
	}
	want := Exit{Status: 137, At: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)}
	if len(exits) != 1 || exits["ended"] != want {
		t.Errorf("got %v", exits)
	}
}

func TestNoBundlesAreNoError(t *testing.T) {
	if exits, err := readExits(t.TempDir(), nil); err != nil || len(exits) != 0 {
		t.Errorf("%v, %v", exits, err)
	}
}

func TestSocketsAreWhereTheirAddressesFit(t *testing.T) {
	if got := socketDir("/run/shoal"); got != "/run/shoal/s" {
		t.Errorf("short: %s", got)
	}
	for _, long := range []string{"/run/" + strings.Repeat("x", 40), "/run/" + strings.Repeat("y", 200)} {
		if got := socketDir(long); len(got) > maxSocketDir || !strings.HasPrefix(got, "/run/shoal-s-") {
			t.Errorf("long: %s", got)
		}
	}
}
