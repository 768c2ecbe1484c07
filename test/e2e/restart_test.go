package e2e

import (
	"strings"
	"testing"
	"time"

	"github.com/shoal-dev/shoal/test/lab"
)

func TestADaemonThatIsKilledAndStartedAgainTouchesNothing(t *testing.T) {
	c := newCluster(t, "again")
	c.create(c.n1, "--name", "web", "-p", "8080:80", "--replicas", "3", "nginx")
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
		l := c.startLoad(8080)
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
		l.finish()
		if after := tasks(); after != before {
			t.Errorf("%s and started again: tasks are\n%s\nwere\n%s", tc.name, after, before)
		}
	}
	c.scale(c.n1, "web", 4)
	id, _, _ := strings.Cut(c.ok(c.n2, "ps", "-q"), "\n")
	if got := c.ok(c.n2, "exec", id, "echo", "alive"); got != "alive" {
		t.Errorf("exec after a restart: %q", got)
	}
}
