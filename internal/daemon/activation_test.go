package daemon

import (
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/shoal-dev/shoal/internal/daemon/config"
)

// -H fd://, which Docker's own unit has, was an invalid protocol.
func TestTheAPIIsServedOnSocketsOfSystemd(t *testing.T) {
	if os.Getenv("SHOAL_ACTIVATED") != "" {
		// This is the process that systemd has started.
		t.Setenv("LISTEN_PID", strconv.Itoa(os.Getpid()))
		d := &Daemon{cfg: config.Config{Hosts: []string{os.Getenv("SHOAL_ACTIVATED")}}, log: slog.New(slog.DiscardHandler)}
		all, _, err := d.listen()
		if err != nil {
			t.Fatal(err)
		}
		for _, l := range all {
			t.Logf("serves %s", l.Addr())
		}
		if os.Getenv("LISTEN_FDS") != "" {
			t.Error("children are told of the sockets")
		}
		return
	}
	dir := t.TempDir()
	var files []*os.File
	for _, name := range []string{"a", "b"} {
		l, err := net.Listen("unix", filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		file, err := l.(*net.UnixListener).File()
		if err != nil {
			t.Fatal(err)
		}
		defer file.Close()
		files = append(files, file)
	}
	for host, want := range map[string][]bool{"fd://": {true, true}, "fd://*": {true, true}, "fd://4": {false, true}, "fd://first": {true, false}} {
		cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=TestTheAPIIsServedOnSocketsOfSystemd", "-test.v")
		cmd.Env = append(os.Environ(), "SHOAL_ACTIVATED="+host, "LISTEN_FDS=2", "LISTEN_FDNAMES=first:second")
		cmd.ExtraFiles = files
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Errorf("%s: %v: %s", host, err, out)
		}
		for i, name := range []string{"a", "b"} {
			if got := strings.Contains(string(out), "serves "+filepath.Join(dir, name)); got != want[i] {
				t.Errorf("%s: socket %s is served: %t", host, name, got)
			}
		}
	}
	d := &Daemon{cfg: config.Config{Hosts: []string{"fd://"}}, log: slog.New(slog.DiscardHandler)}
	if _, _, err := d.listen(); err == nil || !strings.Contains(err.Error(), "no sockets found via socket activation: make sure the service was started by systemd") {
		t.Errorf("without systemd: %v", err)
	}
}
