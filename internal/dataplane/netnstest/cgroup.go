package netnstest

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// JoinCgroup moves the test's process into a cgroup of the unified hierarchy for as long as the test runs, and removes it after. It
// returns the cgroup's name. The test is skipped where there is no such hierarchy.
func JoinCgroup(t testing.TB) string {
	t.Helper()
	root := ""
	for _, dir := range []string{"/sys/fs/cgroup", "/sys/fs/cgroup/unified"} {
		var st unix.Statfs_t
		if unix.Statfs(dir, &st) == nil && st.Type == unix.CGROUP2_SUPER_MAGIC {
			root = dir
		}
	}
	if root == "" {
		t.Skip("no unified cgroup hierarchy is mounted")
	}
	text, err := os.ReadFile("/proc/self/cgroup")
	must(t, err)
	original := ""
	for line := range strings.Lines(string(text)) {
		if path, ok := strings.CutPrefix(strings.TrimSpace(line), "0::"); ok {
			original = path
		}
	}
	name := fmt.Sprintf("/shoal-test-%d", os.Getpid())
	move := func(to string) error {
		return os.WriteFile(filepath.Join(root, to, "cgroup.procs"), []byte(fmt.Sprint(os.Getpid())), 0)
	}
	must(t, os.MkdirAll(filepath.Join(root, name), 0o755))
	must(t, move(name))
	t.Cleanup(func() {
		if err := move(original); err != nil {
			t.Error(err)
		}
		if err := os.Remove(filepath.Join(root, name)); err != nil {
			t.Error(err)
		}
	})
	return name
}
