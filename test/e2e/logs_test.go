package e2e

import (
	"bytes"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/shoal-dev/shoal/test/lab"
)

// transcript is what a command that goes on has printed so far.
type transcript struct {
	mu  sync.Mutex // guards buf
	buf bytes.Buffer
}

func (o *transcript) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.Write(p)
}

func (o *transcript) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.String()
}

// watch starts a docker command that goes on; it ends with the test.
func (c *cluster) watch(n *lab.Node, args ...string) (stdout, stderr *transcript) {
	c.t.Helper()
	stdout, stderr = &transcript{}, &transcript{}
	cmd := n.DockerCommand(c.t.Context(), args...)
	cmd.Stdout, cmd.Stderr = stdout, stderr
	if err := cmd.Start(); err != nil {
		c.t.Fatal(err)
	}
	c.t.Cleanup(func() {
		_ = cmd.Process.Kill() // it goes on until then
		_ = cmd.Wait()         // killed
	})
	return stdout, stderr
}

// counted checks that text is the lines 1, 2, 3… and returns the last number.
func counted(text string) (int, error) {
	n := 0
	for line := range strings.Lines(text) {
		n++
		if line != fmt.Sprintf("%d\n", n) {
			return 0, fmt.Errorf("line %d is %q", n, line)
		}
	}
	return n, nil
}

func TestFollowedLogsSurviveLeadersAndNodes(t *testing.T) {
	c := newManagers(t, "tail")
	c.create(c.n2, "--name", "count", "--constraint", "node.hostname==n3", "--stop-grace-period", "100ms", "busybox",
		"sh", "-c", "i=0; while true; do i=$((i+1)); echo $i; sleep 0.05; done")
	out, errs := c.watch(c.n2, "service", "logs", "-f", "--raw", "count")
	grows := func(what string) {
		t.Helper()
		before, _ := counted(out.String())
		c.eventually(30*time.Second, what, func() error {
			n, err := counted(out.String())
			if err != nil {
				t.Fatal(err)
			}
			if n < before+30 {
				return fmt.Errorf("%d lines, then %d", before, n)
			}
			return nil
		})
	}
	grows("lines come")
	if err := c.n1.Kill(); err != nil {
		t.Fatal(err)
	}
	grows("lines come under another leader")
	if errs.String() != "" {
		t.Errorf("on stderr: %s", errs)
	}
	if err := c.n1.Start(); err != nil {
		t.Fatal(err)
	}
	c.eventually(20*time.Second, "n1 is a manager again", func() error {
		if r := c.docker(c.n2, "node", "ls", "--format", "{{.Hostname}} {{.Status}} {{.ManagerStatus}}"); !strings.Contains(r.Stdout, "n1 Ready Reachable") {
			return fmt.Errorf("%s", r.Text())
		}
		return nil
	})

	// The node itself goes, and its containers live on. Whoever leads then, one line tells of it.
	if err := c.n3.Kill(); err != nil {
		t.Fatal(err)
	}
	c.eventually(30*time.Second, "the reader is told that the node is away", func() error {
		if !strings.Contains(errs.String(), "node n3 is not available") {
			return fmt.Errorf("%q", errs)
		}
		return nil
	})
	if r := c.docker(c.n2, "service", "logs", "--tail", "1", "--raw", "count"); r.Code != 0 || !strings.Contains(r.Stderr, "incomplete log stream") {
		t.Errorf("logs of a node that is away: %+v", r)
	}
	if err := c.n3.Start(); err != nil {
		t.Fatal(err)
	}
	c.eventually(30*time.Second, "the service runs again", func() error {
		if got := c.docker(c.n2, "service", "ls", "--format", "{{.Replicas}}").Stdout; got != "1/1\n" {
			return fmt.Errorf("%s", got)
		}
		return nil
	})
	if got := strings.Count(errs.String(), "not available"); got != 1 {
		t.Errorf("%d warnings: %s", got, errs)
	}
}

// What is asked of logs is answered as Docker does, and tasks that come later are followed too.
func TestServiceLogOptions(t *testing.T) {
	t.Parallel()
	c := newCluster(t, "logopts")
	c.create(c.n1, "--name", "talk", "--env", "COLOUR=red", "busybox", "sh", "-c", "echo one; echo two; echo err >&2; exec sleep 1d")
	c.eventually(10*time.Second, "all lines are there", func() error {
		if r := c.docker(c.n1, "service", "logs", "--raw", "talk"); r.Stdout != "one\ntwo\n" || r.Stderr != "err\n" {
			return fmt.Errorf("%+v", r)
		}
		return nil
	})
	task := c.ok(c.n1, "service", "ps", "-q", "--no-trunc", "talk")
	for _, tc := range []struct{ args, pattern string }{
		{"--timestamps --raw", `(?m)^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}Z one$`},
		{"--no-task-ids --details", `(?m)^talk\.1@n\d    \|  two$`},
		{"--no-trunc", `(?m)^talk\.1\.` + task + `@n\d    \| one$`},
		{"--since 1h --raw", `^one\ntwo\n`},
	} {
		c.refused(c.n1, 0, tc.pattern, append(append([]string{"service", "logs"}, strings.Fields(tc.args)...), "talk")...)
	}
	c.refused(c.n1, 0, `^$`, "service", "logs", "--since", "0m", "--tail", "0", "talk")
	c.refused(c.n1, 0, `^one\ntwo\nerr$`, "service", "logs", "--raw", task)

	out, _ := c.watch(c.n1, "service", "logs", "-f", "--raw", "talk")
	c.eventually(10*time.Second, "the first task's lines are followed", func() error { // only then is a task a later one
		if out.String() != "one\ntwo\n" {
			return fmt.Errorf("%q", out)
		}
		return nil
	})
	c.ok(c.n1, "service", "scale", "-d", "talk=2")
	c.eventually(10*time.Second, "the new task's lines are followed", func() error {
		if out.String() != "one\ntwo\none\ntwo\n" {
			return fmt.Errorf("%q", out)
		}
		return nil
	})
}
