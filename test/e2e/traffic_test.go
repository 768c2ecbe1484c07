package e2e

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/shoal-dev/shoal/internal/shoal"
	"github.com/shoal-dev/shoal/test/load"
)

// traffic is requests under way, of which none may fail.
type traffic struct {
	*load.Load
	c *cluster
}

// startLoad sends requests through every node, each on a new connection.
func (c *cluster) startLoad(port int) *traffic {
	return c.startTraffic(load.Config{URLs: c.everyNode(port)})
}

// startTraffic sends requests from the client machine.
func (c *cluster) startTraffic(cfg load.Config) *traffic {
	cfg.Dial = c.client.Dial
	cfg.Failed = func(f load.Failure) {
		c.t.Log(f)
		c.failures.Lock()
		defer c.failures.Unlock()
		c.failures.at = append(c.failures.at, f.Began)
	}
	return &traffic{load.Start(c.t.Context(), cfg), c}
}

// failures is when requests failed.
type failures struct {
	sync.Mutex
	at []time.Time
}

// failedAt is when the first requests failed.
func (c *cluster) failedAt() []time.Time {
	const enough = 3
	c.failures.Lock()
	defer c.failures.Unlock()
	return c.failures.at[:min(enough, len(c.failures.at))]
}

// everyNode is a published port's URL on each node.
func (c *cluster) everyNode(port int) []string {
	var urls []string
	for _, n := range c.Nodes() {
		urls = append(urls, fmt.Sprintf("http://%s:%d/", n.Addr, port))
	}
	return urls
}

// more waits until that many more requests have ended.
func (l *traffic) more(requests int64) { l.until(l.Sent() + requests) }

// until waits until so many requests have ended.
func (l *traffic) until(requests int64) {
	l.c.t.Helper()
	l.c.eventually(2*time.Minute, "load goes on", func() error {
		if now := l.Sent(); now < requests {
			return fmt.Errorf("%d requests of %d", now, requests)
		}
		return nil
	})
}

// finish ends the load; none may have failed.
func (l *traffic) finish() {
	l.c.t.Helper()
	l.Stop()
	l.c.t.Logf("%d requests, %d failed", l.Sent(), l.Failed())
	if l.Failed() > 0 {
		l.c.t.Errorf("%d of %d requests failed", l.Failed(), l.Sent())
	}
}

func TestNoRequestFailsWhileTasksComeAndGo(t *testing.T) {
	c := newCluster(t, "moves")
	c.create(c.n1, "--name", "web", "-p", "8080:80", "--replicas", "2", "nginx")
	l := c.startLoad(8080)
	for _, step := range [][]string{
		{"service", "scale", "-d", "web=5"}, {"service", "scale", "-d", "web=2"}, {"service", "scale", "-d", "web=6"}, {"service", "scale", "-d", "web=3"},
		{"node", "update", "--availability", "drain", "n2"}, {"node", "update", "--availability", "active", "n2"},
		{"service", "scale", "-d", "web=6"}, {"node", "update", "--availability", "drain", "n3"},
	} {
		before := l.Failed()
		c.ok(c.n1, step...)
		if step[3] == "drain" {
			c.eventually(30*time.Second, "tasks have moved", func() error {
				if nodes := c.spread("web"); strings.Contains(nodes, step[4]) {
					return fmt.Errorf("%s", nodes)
				}
				return nil
			})
		}
		c.settled(c.n1, "web")
		l.more(200)
		if l.Failed() > before {
			t.Errorf("docker %s: %d requests failed", strings.Join(step, " "), l.Failed()-before)
		}
	}
	l.finish()
	c.spreadEvenly("web", 300)
}

// A task is out of every balancer before it is told to stop, and in none before it listens.
func TestNoRequestFailsThroughRollingUpdates(t *testing.T) {
	c := newCluster(t, "roll")
	c.create(c.n1, "--name", "web", "-p", "8080:80", "--replicas", "3", "nginx")
	for _, order := range []string{"start-first", "stop-first"} {
		l := c.startLoad(8080)
		c.ok(c.n1, "service", "update", "-q", "--force", "--update-order", order, "--update-monitor", "100ms", "web")
		l.more(200)
		l.finish()
	}
}

func TestContainersComeAndGoQuicklyOnAnOverlay(t *testing.T) {
	c := newCluster(t, "quick")
	c.ok(c.n1, "network", "create", "-d", "overlay", "--attachable", "--subnet", "10.56.0.0/24", "open")
	var running sync.WaitGroup
	for _, n := range c.Nodes() {
		for range 2 {
			running.Go(func() {
				for range 8 {
					r := c.docker(n, "run", "--rm", "--network", "open", "busybox", "ip", "addr", "show", "eth0")
					if r.Code != 0 || !strings.Contains(r.Stdout, "10.56.0.") {
						t.Errorf("on %s: exit %d: %s", n.Name, r.Code, r.Text())
					}
				}
			})
		}
	}
	running.Wait()
}

func TestNoCallThroughAVIPFailsWhileTasksComeAndGo(t *testing.T) {
	c := newCluster(t, "calls")
	c.ok(c.n1, "network", "create", "-d", "overlay", "--attachable", "net")
	c.create(c.n1, "--name", "web", "--network", "net", "--replicas", "2",
		"-p", "8085:80", "nginx") // a task that publishes a port runs once it listens there; one that does not, once it has started
	c.create(c.n1, "--name", "caller", "--network", "net", "--mode", "global", "srv:1")
	const requests = 500 // at least, on each node
	var calls []*caller
	for _, n := range c.Nodes() {
		calls = append(calls, c.call(n, c.taskOn(n, "caller"), "-least", fmt.Sprint(requests), "http://web/"))
	}
	for _, replicas := range []int{5, 2, 6, 1} {
		c.scale(c.n1, "web", replicas)
	}
	for _, l := range calls {
		if sent, failed := l.finish(); sent < requests || failed > 0 {
			t.Errorf("%s: %d of %d requests failed; want at least %d without failure", l.name, failed, sent, requests)
		}
	}
	// The programs that balance are the node's own: 30 calls of one container are spread evenly.
	c.scale(c.n1, "web", 3)
	marker := "/call-" + shoal.NewID[string]()
	busy := c.ok(c.n2, "run", "-d", "--network", "net", "busybox", "sleep", "1d")
	c.docker(c.n2, "exec", busy, "sh", "-c", "for i in $(seq 30); do wget -qO/dev/null http://web"+marker+"; done") // 404 is its exit code
	for _, task := range c.rows(c.n1, "service", "ps", "web", "--filter", "desired-state=running", "-q", "--no-trunc") {
		c.eventually(5*time.Second, "even spread", func() error {
			if got := strings.Count(c.docker(c.n1, "service", "logs", "--raw", task).Stdout, marker+" "); got != 10 {
				return fmt.Errorf("task %s answered %d of 30 calls, want 10", task, got)
			}
			return nil
		})
	}
}
