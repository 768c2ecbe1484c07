package e2e

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/shoal-dev/shoal/test/lab"
	"github.com/shoal-dev/shoal/test/load"
)

// smallDisk puts a node's data root on a disk of its own. The node must not have anything there yet.
func (c *cluster) smallDisk(n *lab.Node, size string) {
	c.t.Helper()
	if err := n.Stop(); err != nil {
		c.t.Fatal(err)
	}
	if err := unix.Mount("tmpfs", n.DataRoot(), "tmpfs", 0, "mode=700,size="+size); err != nil { // the lab unmounts what is below its folder
		c.t.Fatal(err)
	}
	if err := n.Start(); err != nil {
		c.t.Fatal(err)
	}
}

// fill takes the last block of the disk that a folder is on. It returns what makes room again.
func (c *cluster) fill(dir string) (free func()) {
	c.t.Helper()
	filler := filepath.Join(dir, "filler")
	file, err := os.Create(filler)
	if err != nil {
		c.t.Fatal(err)
	}
	for _, size := range []int{1 << 20, 4096, 1} {
		buffer := make([]byte, size)
		for err = nil; err == nil; {
			_, err = file.Write(buffer)
		}
	}
	if err := file.Close(); err != nil {
		c.t.Fatal(err)
	}
	return func() {
		if err := os.Remove(filler); err != nil {
			c.t.Fatal(err)
		}
	}
}

// The disk of a worker is full to the last block: what runs there goes on and answers, what cannot start says why and starts elsewhere, or when there is
// room; the node stays, also through a death of its daemon.
func TestAWorkersDiskIsFull(t *testing.T) {
	t.Parallel()
	c := newLab(t, "wfull")
	c.smallDisk(c.n2, "200m")
	c.loadImages(c.n1, c.n2, c.n3)
	c.ok(c.n1, "swarm", "init", "--advertise-addr", c.n1.Addr)
	token := c.ok(c.n1, "swarm", "join-token", "-q", "worker")
	for _, n := range []*lab.Node{c.n2, c.n3} {
		c.ok(n, "swarm", "join", "--token", token, c.n1.Addr+":2377")
	}
	c.create(c.n1, "--name", "web", "--mode", "global", "-p", "8080:80", "srv:1")
	traffic := c.startTraffic(load.Config{URLs: c.everyNode(8080), Pause: 20 * time.Millisecond})
	before := c.rows(c.n2, "ps", "-q", "--no-trunc")
	pid := c.n2.PID()
	free := c.fill(c.n2.DataRoot())

	const quick = "100ms"
	c.ok(c.n1, "service", "create", "-d", "--name", "here", "--constraint", "node.hostname==n2", "--restart-delay", quick, "busybox", "sleep", "1d")
	c.ok(c.n1, "service", "create", "-d", "--name", "anywhere", "--replicas", "3", "--restart-delay", quick, "busybox", "sleep", "1d")
	c.eventually(20*time.Second, "a task that cannot start says why", func() error {
		r := c.docker(c.n1, "service", "ps", "--no-trunc", "--format", "{{.CurrentState}} {{.Error}}", "here")
		if !strings.Contains(r.Text(), "no space left on device") {
			return errors.New(r.Text())
		}
		return nil
	})
	c.eventually(60*time.Second, "what can run elsewhere does", func() error { return c.running("anywhere", 3) })
	c.stands(c.n2, pid, before)

	if err := c.n2.Kill(); err != nil {
		t.Fatal(err)
	}
	if err := c.n2.Start(); err != nil {
		t.Fatal(err)
	}
	c.stands(c.n2, c.n2.PID(), before)
	c.ok(c.n1, "service", "scale", "-d", "anywhere=4")
	c.eventually(60*time.Second, "what can run elsewhere does", func() error { return c.running("anywhere", 4) })
	c.stands(c.n2, c.n2.PID(), before)
	if problems, _ := runShoal(t, "shoal", c.n2, "doctor"); !strings.Contains(problems, "no space left on device") {
		t.Errorf("shoal doctor:\n%s", problems)
	}

	free()
	c.eventually(90*time.Second, "what waited for room runs", func() error { return c.running("here", 1) })
	c.eventually(60*time.Second, "nothing is amiss", func() error {
		if text, code := runShoal(t, "shoal", c.n2, "doctor"); code != 0 {
			return errors.New(text)
		}
		return nil
	})
	c.ok(c.n2, "run", "--rm", "busybox", "true")
	c.stands(c.n2, c.n2.PID(), before)
	traffic.finish()
}

// stands checks that a node's daemon is that process, that its node is Ready and that these containers run.
func (c *cluster) stands(n *lab.Node, pid int, containers []string) {
	c.t.Helper()
	if err := unix.Kill(pid, 0); err != nil || n.PID() != pid {
		c.t.Errorf("the daemon of %s is another process: %v", n.Name, err)
	}
	c.eventually(20*time.Second, n.Name+" is Ready, with its tasks", func() error {
		if err := c.nodeIs(n.Name, "Ready"); err != nil {
			return err
		}
		running := strings.Join(c.rows(n, "ps", "-q", "--no-trunc"), " ")
		for _, id := range containers {
			if !strings.Contains(running, id) {
				return fmt.Errorf("container %s does not run: %s", id, running)
			}
		}
		return nil
	})
}
