package e2e

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/shoal-dev/shoal/test/lab"
)

// stall stops a daemon's process for a time.
func stall(t *testing.T, n *lab.Node, d time.Duration) {
	t.Helper()
	if err := unix.Kill(n.PID(), unix.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	<-time.After(d)
	if err := unix.Kill(n.PID(), unix.SIGCONT); err != nil {
		t.Fatal(err)
	}
}

// A manager that had stood still once took all nodes for silent as soon as it went on: every node was Down, and every task was replaced.
func TestAManagerThatStoodStillAccusesNobody(t *testing.T) {
	t.Parallel()
	for name, found := range map[string]func(*testing.T, string) *cluster{"solemgr": newCluster, "threemgr": newManagers} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := found(t, name)
			c.create(c.n1, "--name", "web", "--replicas", "6", "busybox", "sleep", "1d")
			tasks := func() []string {
				rows := strings.Split(c.docker(c.n1, "service", "ps", "web", "--no-trunc", "--format", "{{.ID}} {{.DesiredState}}").Text(), "\n")
				slices.Sort(rows)
				return rows
			}
			before := tasks()
			if name == "threemgr" { // the leader's own tasks are replaced, because the others cannot tell that it comes back
				id := c.ok(c.n1, "node", "inspect", "self", "--format", "{{.ID}}")
				onLeader := c.rows(c.n1, "node", "ps", id, "--no-trunc", "--format", "{{.ID}}")
				stall(t, c.n1, 30*time.Second)
				c.eventually(20*time.Second, "all nodes are ready", c.allReady)
				for _, row := range before {
					id, _, _ := strings.Cut(row, " ")
					if !slices.Contains(onLeader, id) && !slices.Contains(tasks(), row) {
						t.Errorf("task %s was replaced; tasks are now\n%s", row, strings.Join(tasks(), "\n"))
					}
				}
				return
			}
			events := c.eventsSince(c.n1, func() {
				stall(t, c.n1, 30*time.Second)
				c.eventually(20*time.Second, "all nodes are ready", c.allReady)
				<-time.After(4 * time.Second) // longer than the heartbeat timeout
			})
			if after := tasks(); !slices.Equal(after, before) {
				t.Errorf("tasks were\n%s\nand are\n%s", strings.Join(before, "\n"), strings.Join(after, "\n"))
			}
			if strings.Contains(events, "state.new=down") {
				t.Errorf("a node was down:\n%s", events)
			}
		})
	}
}

// eventsSince is the events of nodes while do runs.
func (c *cluster) eventsSince(n *lab.Node, do func()) string {
	c.t.Helper()
	begin := time.Now()
	do()
	return c.ok(n, "events", "--since", fmt.Sprint(begin.Unix()), "--until", fmt.Sprint(time.Now().Unix()+1), "--filter", "type=node")
}
