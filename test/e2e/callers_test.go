package e2e

import (
	"errors"
	"testing"
	"time"
)

// The workers of a sole manager knew it only at the address that it had left, and were Down for good.
func TestWorkersFindTheirManagerAtItsNewAddress(t *testing.T) {
	c := newLab(t, "callers")
	c.loadImages(c.n2)
	c.ok(c.n1, "swarm", "init", "--advertise-addr", c.n1.Addr)
	c.ok(c.n2, "swarm", "join", "--token", c.ok(c.n1, "swarm", "join-token", "-q", "worker"), c.n1.Addr+":2377")
	c.ok(c.n1, "service", "create", "-d", "-q", "--name", "web", "--mode", "global", "--constraint", "node.role==worker", "busybox", "sleep", "1d")
	c.eventually(30*time.Second, "the worker runs its task", func() error { return c.running("web", 1) })
	before := c.rows(c.n2, "ps", "-q")
	if err := c.n1.Stop(); err != nil {
		t.Fatal(err)
	}
	const now = "10.77.0.44"
	for _, args := range [][]string{{"addr", "add", now + "/24", "dev", "eth0"}, {"addr", "del", c.n1.Addr + "/24", "dev", "eth0"}, {"addr", "replace", now + "/24", "dev", "eth0"}} {
		if out, err := c.n1.Command(t.Context(), "ip", args...).CombinedOutput(); err != nil {
			t.Fatalf("ip %v: %v: %s", args, err, out)
		}
	}
	c.n1.Addr = now
	if err := c.n1.Start(); err != nil {
		t.Fatal(err)
	}
	c.eventually(30*time.Second, "the worker takes changes", func() error {
		if r := c.docker(c.n1, "service", "update", "-d", "--env-add", "a=b", "web"); r.Code != 0 {
			return errors.New(r.Text())
		}
		return nil
	})
	c.eventually(60*time.Second, "the worker runs the new task", func() error {
		after := c.rows(c.n2, "ps", "-q")
		if len(after) != 1 || after[0] == before[0] {
			return errors.New("it has other containers")
		}
		return nil
	})
}
