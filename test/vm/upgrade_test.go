package vm

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

const (
	next      = "0.2.0-next"                   // the version that is upgraded to
	nextShoal = "/usr/local/lib/vm/shoal-next" // in the machine
)

// nextVersion builds the daemon with another version's name, and returns its path.
func nextVersion(t *testing.T) string {
	t.Helper()
	path := filepath.Join(tree(), ".cache", "vm", "shoal-next")
	build := exec.CommandContext(t.Context(), "go", "build", "-trimpath", "-ldflags", "-s -w -X main.version="+next, "-o", path, "./cmd/shoal")
	build.Dir, build.Env = tree(), append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build the next version: %v: %s", err, out)
	}
	return path
}

// load is requests in a machine for the published port, each by a connection of its own, at an address.
type load struct {
	n       *node
	process string
	file    string // of their answers, a line each
}

func (n *node) startLoad(addr string) *load {
	n.Helper()
	const rate = "4/s" // what the machine has time for
	l := &load{n: n, file: "/run/load-" + addr}
	l.process = n.run(fmt.Sprintf("setsid nohup curl -s --rate %s --max-time 30 -H 'Connection: close' -o /dev/null -w '%%{stderr}%%{http_code} %%{errormsg}\\n' 'http://%s:8080/secret?[1-1000000]' 2>%s >/dev/null & echo $!",
		rate, addr, l.file))
	return l
}

// goOn waits until some more requests were answered.
func (l *load) goOn(more int) {
	l.n.Helper()
	before := len(l.answered())
	l.n.within(settleLimit, "requests are answered", func() error {
		if now := len(l.answered()); now < before+more {
			return fmt.Errorf("%d more", now-before)
		}
		return nil
	})
}

// answered is the lines that are complete.
func (l *load) answered() []string {
	l.n.Helper()
	lines := strings.Split(l.n.run("cat "+l.file+"; echo -"), "\n")
	return lines[:len(lines)-1]
}

// stop returns how many requests there were and those that failed.
func (l *load) stop() (count int, failed []string) {
	l.n.Helper()
	l.n.run("kill " + l.process)
	for _, line := range l.answered() {
		count++
		if !strings.HasPrefix(line, "200") {
			failed = append(failed, line)
		}
	}
	return count, failed
}

// replace puts another program in the daemon's place, as a package does, and starts it.
func (n *node) replace(program, version string) {
	n.Helper()
	n.run("cp " + program + " /usr/local/bin/.shoal.new && mv /usr/local/bin/.shoal.new /usr/local/bin/shoal && systemctl restart shoal")
	took := n.settled("all works with " + version)
	if got := n.run("docker version -f '{{.Server.Version}}'"); got != version {
		n.Errorf("the daemon says it is %s, not %s", got, version)
	}
	n.Logf("%s: all works after %v; %s", version, took, n.starts())
}

// An upgrade, and the way back, cost neither a request nor a container's process.
func upgrade(t *testing.T, n *node) {
	const before = "/usr/local/lib/vm/shoal-before"
	n.run("cp /usr/local/bin/shoal " + before)
	version, processes := n.run("docker version -f '{{.Server.Version}}'"), n.processes()
	loads := []*load{n.startLoad("127.0.0.1"), n.startLoad(n.machine.Address())}
	const some = 20
	for _, to := range []struct{ program, version string }{{nextShoal, next}, {before, version}} {
		for _, l := range loads {
			l.goOn(some)
		}
		n.replace(to.program, to.version)
		if now := n.processes(); now != processes {
			t.Errorf("with %s containers run as other processes:\n%s\nnow\n%s", to.version, processes, now)
		}
	}
	for _, l := range loads {
		l.goOn(some)
		count, failed := l.stop()
		if len(failed) > 0 {
			t.Errorf("%s: %d of %d requests failed: %q", l.file, len(failed), count, failed)
		}
		t.Logf("%s: %d requests, %d failed", l.file, count, len(failed))
	}
}
