package e2e

import (
	"bytes"
	"fmt"
	"io"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/shoal-dev/shoal/test/lab"
	"github.com/shoal-dev/shoal/test/load"
)

// caller is a load that a container sends.
type caller struct {
	c     *cluster
	name  string
	cmd   *exec.Cmd
	stdin io.WriteCloser
	out   bytes.Buffer
	errs  bytes.Buffer
}

// call makes a container of a node send requests until finish.
func (c *cluster) call(n *lab.Node, container string, args ...string) *caller {
	c.t.Helper()
	l := &caller{c: c, name: n.Name + " " + strings.Join(args, " ")}
	l.cmd = n.DockerCommand(c.t.Context(), append([]string{"exec", "-i", container, "/srv", "load"}, args...)...)
	l.cmd.Stdout, l.cmd.Stderr = &l.out, &l.errs
	var err error
	if l.stdin, err = l.cmd.StdinPipe(); err != nil {
		c.t.Fatal(err)
	}
	if err := l.cmd.Start(); err != nil {
		c.t.Fatal(err)
	}
	return l
}

// finish ends the load and gives how many requests there were and how many failed.
func (l *caller) finish() (sent, failed int64) {
	l.c.t.Helper()
	_ = l.stdin.Close() // it has ended if this fails, and Wait says why
	if err := l.cmd.Wait(); err != nil {
		l.c.t.Errorf("%s: %v\n%s", l.name, err, l.errs.String())
		return 0, 0
	}
	if _, err := fmt.Sscan(l.out.String(), &sent, &failed); err != nil {
		l.c.t.Errorf("%s: %v: %q", l.name, err, l.out.String())
	}
	if failed > 0 {
		l.c.t.Logf("%s:\n%s", l.name, l.errs.String())
	}
	return sent, failed
}

// All that an operator does to a service costs none of the requests that come over the mesh and through its virtual address, be
// it on new connections or on kept ones.
func TestOperationsCostNoRequest(t *testing.T) {
	const requests = 10_000            // at least, of each of the four kinds
	const pause = 2 * time.Millisecond // without it, requests on kept connections take most of the processors from the others
	c := newCluster(t, "ops")
	c.ok(c.n1, "network", "create", "-d", "overlay", "--attachable", "net")
	c.create(c.n1, "--name", "web", "--network", "net", "--replicas", "3", "-p", "8080:80",
		"--update-monitor", "200ms", "srv:1")
	c.ok(c.n1, "run", "-d", "--name", "caller", "--network", "net", "srv:1")

	fresh := c.startTraffic(load.Config{URLs: c.everyNode(8080)})
	kept := c.startTraffic(load.Config{URLs: c.everyNode(8080), Kept: true, Pause: pause})
	calls := []*caller{c.call(c.n1, "caller", "-least", fmt.Sprint(requests), "http://web/"),
		c.call(c.n1, "caller", "-least", fmt.Sprint(requests), "-kept", "-pause", pause.String(), "-workers", "3", "http://web/")}
	for _, step := range [][]string{
		{"service", "update", "-q", "--no-resolve-image", "--update-order", "start-first", "--image", "srv:2", "web"},
		{"service", "update", "-q", "--no-resolve-image", "--update-order", "stop-first", "--image", "srv:1", "web"},
		{"service", "scale", "-d", "web=6"}, {"service", "scale", "-d", "web=2"}, {"service", "scale", "-d", "web=3"},
		{"node", "update", "--availability", "drain", "n2"}, {"node", "update", "--availability", "active", "n2"},
	} {
		before := fresh.Failed() + kept.Failed()
		c.ok(c.n1, step...)
		c.settled(c.n1, "web")
		if now := fresh.Failed() + kept.Failed(); now > before {
			t.Errorf("docker %s: %d requests failed", strings.Join(step, " "), now-before)
		}
	}
	fresh.until(requests)
	kept.until(requests)
	fresh.finish()
	kept.finish()
	for _, l := range calls {
		sent, failed := l.finish()
		t.Logf("%s: %d requests, %d failed", l.name, sent, failed)
		if sent < requests || failed > 0 {
			t.Errorf("%s: %d of %d requests failed; want at least %d without failure", l.name, failed, sent, requests)
		}
	}
}

// A task that is killed takes with it no more than the requests that it was answering.
func TestAKilledTaskCostsOnlyWhatItWasAnswering(t *testing.T) {
	c := newCluster(t, "kill")
	c.ok(c.n1, "network", "create", "-d", "overlay", "--attachable", "net")
	c.create(c.n1, "--name", "web", "--network", "net", "--replicas", "3", "-p", "8080:80", "srv:1")
	c.ok(c.n1, "run", "-d", "--name", "caller", "--network", "net", "srv:1")
	fresh := c.startTraffic(load.Config{URLs: c.everyNode(8080)})
	kept := c.startTraffic(load.Config{URLs: c.everyNode(8080), Kept: true})
	calls := []*caller{c.call(c.n1, "caller", "http://web/"), c.call(c.n1, "caller", "-kept", "http://web/")}
	fresh.more(300)
	c.ok(c.n2, "kill", c.ok(c.n2, "ps", "-q", "--filter", "label=com.docker.swarm.service.name=web"))
	fresh.more(1000)
	c.settled(c.n1, "web")
	fresh.more(300)
	fresh.Stop()
	kept.Stop()
	t.Logf("mesh: %d of %d on new connections, %d of %d on kept ones failed", fresh.Failed(), fresh.Sent(), kept.Failed(), kept.Sent())
	if fresh.Failed() > 3 || kept.Failed() > 3 {
		t.Error("more failed than the three requests that were under way over the mesh")
	}
	for _, l := range calls {
		sent, failed := l.finish()
		t.Logf("%s: %d of %d failed", l.name, failed, sent)
		if failed > 1 {
			t.Errorf("%s: more failed than the one request that was under way", l.name)
		}
	}
}
