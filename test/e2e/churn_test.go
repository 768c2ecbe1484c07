package e2e

import (
	"fmt"
	"strconv"
	"testing"
	"time"

	"github.com/shoal-dev/shoal/test/lab"
)

// churn makes one of everything and takes it away again.
func (c *cluster) churn(round int) {
	c.t.Helper()
	id := strconv.Itoa(round)
	c.ok(c.n1, "network", "create", "-d", "overlay", "--attachable", "net"+id)
	c.ok(c.n1, "secret", "create", "secret"+id, "/etc/hostname")
	c.create(c.n1, "--name", "web"+id, "--network", "net"+id, "-p", "8080:80", "--replicas", "3", "--secret", "secret"+id, "--mount", "type=tmpfs,target=/t",
		"--stop-grace-period", "100ms", "srv:1")
	c.ok(c.n1, "service", "update", "-d", "-q", "--no-resolve-image", "--force", "--update-monitor", "100ms", "--update-parallelism", "0", "web"+id)
	for _, n := range c.Nodes() {
		c.ok(n, "run", "--rm", "--network", "net"+id, "-v", "volume"+id+":/v", "busybox", "sh", "-c", "echo x >/v/f")
		c.ok(n, "volume", "rm", "volume"+id)
	}
	c.settled(c.n1, "web"+id)
	c.ok(c.n1, "service", "rm", "web"+id)
	c.ok(c.n1, "secret", "rm", "secret"+id)
	c.eventually(30*time.Second, "the network can be removed", func() error {
		if r := c.docker(c.n1, "network", "rm", "net"+id); r.Code != 0 {
			return fmt.Errorf("%s", r.Text())
		}
		return nil
	})
}

// goroutines is how many of them a daemon has.
func (c *cluster) goroutines(n *lab.Node) int {
	c.t.Helper()
	count, err := strconv.Atoi(c.ok(n, "info", "--format", "{{.NGoroutines}}"))
	if err != nil {
		c.t.Fatal(err)
	}
	return count
}

// What comes and goes leaves nothing of itself: no process, group, mount, link, file descriptor or goroutine, and no memory that grows.
func TestChurnLeavesNothingBehind(t *testing.T) {
	t.Parallel()
	length, pace := 10*time.Second, time.Duration(0)
	if nightly {
		length, pace = 2*time.Hour, 15*time.Second // other tests run beside it
	}
	c := newCluster(t, "churn")
	const warmUp = 2
	for round := range warmUp {
		c.churn(round)
	}
	type figures struct {
		lab.Holdings
		goroutines int
	}
	measure := func(n *lab.Node) figures {
		h, err := n.Holdings()
		if err != nil {
			t.Fatal(err)
		}
		return figures{h, c.goroutines(n)}
	}
	var before []figures
	for _, n := range c.Nodes() {
		c.eventually(30*time.Second, "no task is left on "+n.Name, func() error {
			if left := c.ok(n, "ps", "-aq"); left != "" {
				return fmt.Errorf("%s", left)
			}
			return nil
		})
		before = append(before, measure(n))
	}
	rounds := warmUp
	var halfway []figures // the store's log and history have their full size by then
	for began := time.Now(); time.Since(began) < length; rounds++ {
		next := time.After(pace)
		c.churn(rounds)
		<-next
		if halfway == nil && time.Since(began) >= length/2 {
			for _, n := range c.Nodes() {
				halfway = append(halfway, measure(n))
				t.Logf("%s after %d rounds: %+v", n.Name, rounds, halfway[len(halfway)-1])
			}
		}
	}
	for i, n := range c.Nodes() {
		was, now := before[i], figures{}
		c.eventually(30*time.Second, n.Name+" has what it had", func() error {
			now = measure(n)
			const slack = 8 // connections and their readers come and go
			if now.Processes > was.Processes || now.Cgroups > was.Cgroups || now.Mounts > was.Mounts || now.Links > was.Links ||
				now.Descriptors > was.Descriptors+slack || now.goroutines > was.goroutines+2*slack {
				return fmt.Errorf("%+v, before %+v", now, was)
			}
			return nil
		})
		t.Logf("%s after %d rounds: %+v, before %+v", n.Name, rounds, now, was)
		const storesLog = 16 << 10 // KiB: the store keeps its last 5,000 entries in memory
		if grown := now.HeapKiB - was.HeapKiB; grown > was.HeapKiB/2+storesLog {
			t.Errorf("%s: the heap has grown from %d to %d KiB", n.Name, was.HeapKiB, now.HeapKiB)
		}
		if grown, half := now.HeapKiB-halfway[i].HeapKiB, halfway[i].HeapKiB; nightly && grown > half/8 {
			t.Errorf("%s: the heap has grown from %d to %d KiB in the second half", n.Name, half, now.HeapKiB)
		}
	}
}
