package engine

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/shoal-dev/shoal/internal/container"
)

// Containers ran on runc, and one that asked for another runtime of the settings was refused.
func TestAContainerOnAnotherRuntime(t *testing.T) {
	h := newBusyboxHost(t)
	log, program := filepath.Join(h.dir, "calls"), filepath.Join(h.dir, "other")
	if err := os.WriteFile(program, fmt.Appendf(nil, "#!/bin/sh\necho \"$@\" >> %s\nexec %s \"$@\"\n", log, h.runtime.OCI), 0o700); err != nil { //nolint:gosec // a program
		t.Fatal(err)
	}
	others := map[string]string{"other": program, "absent": filepath.Join(h.dir, "absent")}
	h.defaults.Store(&container.Defaults{Runtimes: others})
	calls := func() string {
		text, err := os.ReadFile(log)
		if err != nil && !os.IsNotExist(err) {
			t.Fatal(err)
		}
		return string(text)
	}
	h.expect([]step{
		{args: words("run --rm busybox echo stock"), want: "stock\n"},
		{args: words("run --rm --runtime runc busybox echo stock"), want: "stock\n"},
		{args: words("create --runtime nosuch busybox"), want: "unknown or invalid runtime name: nosuch", code: 1},
	})
	if got := calls(); got != "" {
		t.Errorf("calls of the other runtime before it was asked for: %s", got)
	}
	h.expect([]step{
		{args: words("run -d --name up --runtime other busybox sleep 1000")},
		{args: words("inspect -f {{.HostConfig.Runtime}} up"), want: "other\n"},
		{args: words("exec up echo within"), want: "within\n"},
		{args: words("rm -f up"), want: "up"},
		{args: words("run --rm --runtime absent busybox true"), want: "no such file or directory", code: 127},
	})
	for _, call := range []string{" create ", " start ", " exec ", " delete "} {
		if !strings.Contains(calls(), call) {
			t.Errorf("no call%sof the other runtime:\n%s", call, calls())
		}
	}
	h.defaults.Store(&container.Defaults{Runtimes: others, Runtime: "other"})
	before := calls()
	h.expect([]step{{args: words("run --name default busybox true")}, {args: words("inspect -f {{.HostConfig.Runtime}} default"), want: "other\n"}})
	if calls() == before {
		t.Error("the default runtime was not called")
	}
	h.defaults.Store(&container.Defaults{})
	h.expect([]step{{args: words("start default"), want: "unknown or invalid runtime name: other", code: 1}})
}
