package e2e

import (
	"context"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/shoal-dev/shoal/test/lab"
)

// load keeps fetching a URL over each node, with a new connection for every request, until stop is called; stop tells how many
// requests were sent and how many failed.
func (c *cluster) load(port string, over ...*lab.Node) (stop func() (sent, failed int64)) {
	ctx, cancel := context.WithCancel(c.t.Context())
	var sent, failed atomic.Int64
	var senders sync.WaitGroup
	for _, n := range over {
		senders.Go(func() {
			client := c.http()
			for ctx.Err() == nil {
				resp, err := client.Get("http://" + n.Addr + ":" + port + "/")
				sent.Add(1)
				if err != nil {
					failed.Add(1)
					c.t.Logf("over %s: %v", n.Name, err)
					continue
				}
				_ = resp.Body.Close()
			}
		})
	}
	return func() (int64, int64) {
		cancel()
		senders.Wait()
		return sent.Load(), failed.Load()
	}
}

func TestADaemonThatIsKilledAndStartedAgainTouchesNothing(t *testing.T) {
	c := newCluster(t, "again")
	c.ok(c.n1, "service", "create", "-q", "--name", "web", "-p", "8080:80", "--replicas", "3", "nginx")
	tasks := func() string {
		return c.ok(c.n1, "service", "ps", "web", "--format", "{{.ID}} {{.Node}} {{.DesiredState}}")
	}
	before := tasks()
	for _, tc := range []struct {
		name string
		node *lab.Node
		end  func() error
	}{
		{"a worker is killed", c.n2, c.n2.Kill},
		{"a worker is stopped", c.n3, c.n3.Stop},
		{"the manager is killed", c.n1, c.n1.Kill},
	} {
		stop := c.load("8080", c.Nodes()...)
		if err := tc.end(); err != nil {
			t.Fatal(err)
		}
		if err := tc.node.Start(); err != nil {
			t.Fatal(err)
		}
		c.eventually(20*time.Second, "three nodes are ready", func() error {
			for _, n := range c.Nodes() {
				if err := c.nodeIs(n.Name, "Ready"); err != nil {
					return err
				}
			}
			return nil
		})
		if sent, failed := stop(); failed > 0 {
			t.Errorf("%s and started again: %d of %d requests failed", tc.name, failed, sent)
		}
		if after := tasks(); after != before {
			t.Errorf("%s and started again: tasks are\n%s\nwere\n%s", tc.name, after, before)
		}
	}
	c.ok(c.n1, "service", "scale", "web=4")
	id, _, _ := strings.Cut(c.ok(c.n2, "ps", "-q"), "\n")
	if got := c.ok(c.n2, "exec", id, "echo", "alive"); got != "alive" {
		t.Errorf("exec after a restart: %q", got)
	}
}
