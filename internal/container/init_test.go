package container

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/shoal-dev/shoal/internal/logs"
)

func TestInitGivesTheCommandsExitCode(t *testing.T) {
	n := newNode(t)
	for _, c := range []struct {
		cmd  []string
		code int
	}{
		{[]string{"sh", "-c", "exit 7"}, 7},
		{[]string{"sh", "-c", "kill -9 $$"}, 137},
		{[]string{"/no/such"}, 127},
	} {
		id := n.run(Spec{Init: new(true), Cmd: c.cmd})
		if info := n.end(id); info.State.ExitCode != c.code || info.Path != c.cmd[0] {
			t.Errorf("%q: path %s, state %+v", c.cmd, info.Path, info.State)
		}
	}
}

func TestInitReapsOrphans(t *testing.T) {
	n := newNode(t)
	// The orphan is the init's child when its parent, a subshell, has ended; then it ends itself.
	script := `cat /proc/1/cmdline | tr '\0' ' '; echo
(sh -c 'sleep 0.1' & echo $! >/tmp/orphan); p=$(cat /tmp/orphan)
n=0; while [ -e /proc/$p ] && [ $n -lt 200 ]; do n=$((n+1)); sleep 0.05; done
[ ! -e /proc/$p ] && echo reaped`
	id := n.run(Spec{Init: new(true), Cmd: []string{"sh", "-c", script}})
	n.end(id)
	if out := n.logs(id, logs.Stdout); !strings.HasPrefix(out, "/sbin/docker-init -- sh -c") || !strings.HasSuffix(out, "reaped\n") {
		t.Errorf("output %q, %q", out, n.logs(id, logs.Stderr))
	}
}

func TestInitForwardsSignals(t *testing.T) {
	n := newNode(t)
	for _, c := range []struct {
		script string
		code   int
	}{
		{`trap 'exit 5' TERM; echo ready; while :; do sleep 0.05; done`, 5},
		{`echo ready; exec sleep 1000`, 143}, // which the first process of a container would not end by
	} {
		id := n.run(Spec{Init: new(true), Cmd: []string{"sh", "-c", c.script}})
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		err := n.engine.Logs(ctx, id, logs.Query{Tail: -1, Stdout: true, Follow: true}, func(l logs.Line) error {
			if l.Text == "ready\n" {
				return n.engine.Kill(ctx, id, "TERM")
			}
			return nil
		})
		cancel()
		if err != nil {
			t.Error(err)
		}
		if info := n.end(id); info.State.ExitCode != c.code {
			t.Errorf("%s: state %+v", c.script, info.State)
		}
	}
}
