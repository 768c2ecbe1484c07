package engine

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/containerd/errdefs"
)

// `--add-host name:host-gateway` failed builds: BuildKit took it for an address.
func TestHostGatewayInABuild(t *testing.T) {
	h := newBusyboxHost(t)
	dir := writeContext(t, map[string]string{"Dockerfile": "FROM busybox\nRUN cp /etc/hosts /h\n"})
	h.expect([]step{
		{args: []string{"build", "-t", "built", "--add-host", "gw:host-gateway", "--add-host", "other:192.0.2.1", dir}, want: "Successfully built "},
		{args: words("run --rm --network none built cat /h"), want: "192.0.2.7\tgw"},
		{args: words("run --rm --network none built cat /h"), want: "2001:db8::7\tgw"},
		{args: words("run --rm --network none built cat /h"), want: "192.0.2.1\tother"},
	})
}

// A damaged database of the cache failed every build, until somebody removed it.
func TestADamagedCacheIsSetAside(t *testing.T) {
	h := newBusyboxHost(t)
	dir := writeContext(t, map[string]string{"Dockerfile": "FROM busybox\nRUN true\n"})
	root := filepath.Join(h.dir, "buildkit")
	if err := os.MkdirAll(root, 0o711); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"history.db", "metadata_v2.db"} {
		if err := os.WriteFile(filepath.Join(root, name), []byte(strings.Repeat("no database ", 1000)), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	h.expect([]step{{args: []string{"build", "-t", "built", dir}, want: "Successfully built "}, {args: []string{"build", dir}, want: "Using cache"}})
	if len(h.setAside) != 1 || h.setAside[0] != root {
		t.Errorf("what was set aside: %q", h.setAside)
	}
}

// Builds wrote until the disk was full, also the last of it, which is kept for the cluster's state.
func TestABuildEndsWhenTheRoomIsUsedUp(t *testing.T) {
	h := newBusyboxHost(t)
	full := errdefs.ErrResourceExhausted.WithMessage("the disk is nearly full")
	seconds := fmt.Sprint(700000 + os.Getpid()) // of no other test on the machine
	dir := writeContext(t, map[string]string{"Dockerfile": "FROM busybox\nRUN sleep " + seconds + "\n"})
	building := make(chan string, 1)
	go func() {
		out, _ := h.docker("", "build", dir)
		building <- out
	}()
	deadline := time.After(time.Minute)
	for len(processes(t, "sleep", seconds)) == 0 {
		select {
		case out := <-building:
			t.Fatalf("the build has ended: %s", out)
		case <-deadline:
			t.Fatal("the step does not run")
		case <-time.After(20 * time.Millisecond):
		}
	}
	// Its state is not where another runc on the machine looks.
	if left, _ := filepath.Glob(filepath.Join(h.dir, "state", "build", "runc", "*")); len(left) != 1 { // fails for malformed patterns only
		t.Errorf("runc's state of steps: %q", left)
	}
	h.room.Store(&full)
	select {
	case out := <-building:
		if !strings.Contains(out, "the disk is nearly full") {
			t.Errorf("the build ends with %s", out)
		}
	case <-deadline:
		t.Fatal("the build goes on")
	}
	if left := processes(t, "sleep", seconds); len(left) > 0 {
		t.Errorf("processes of the step: %q", left)
	}
	h.expect([]step{{args: []string{"build", dir}, want: "the disk is nearly full", code: 1}})
	h.room.Store(nil)
}
