package e2e

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestThreeMachinesBecomeACluster(t *testing.T) {
	c := newLab(t, "join")
	networks := func() string { return c.ok(c.n1, "network", "ls", "--format", "{{.Name}} {{.Driver}} {{.Scope}}") }
	if got, want := networks(), "bridge bridge local\nhost host local\nnone null local"; got != want {
		t.Errorf("networks before init:\n%s\nwant:\n%s", got, want)
	}
	printed := c.ok(c.n1, "swarm", "init", "--advertise-addr", c.n1.Addr)
	join := regexp.MustCompile(`docker (swarm join --token SWMTKN-1-[0-9a-z]{50}-[0-9a-z]{25} 10\.77\.0\.11:2377)`).FindStringSubmatch(printed)
	if join == nil || !strings.Contains(printed, "is now a manager.") {
		t.Fatalf("swarm init printed:\n%s", printed)
	}
	c.ok(c.n2, strings.Fields(join[1])...)
	if got := c.ok(c.n3, strings.Fields(join[1])...); got != "This node joined a swarm as a worker." {
		t.Errorf("join printed %q", got)
	}
	if got, want := networks(), "bridge bridge local\ndocker_gwbridge bridge local\nhost host local\ningress overlay swarm\nnone null local"; got != want {
		t.Errorf("networks after init:\n%s\nwant:\n%s", got, want)
	}
	nodes := c.rows(c.n1, "node", "ls", "--format", "{{.Hostname}} {{.Self}} {{.Status}} {{.Availability}} {{.ManagerStatus}}")
	slices.Sort(nodes)
	if want := []string{"n1 true Ready Active Leader", "n2 false Ready Active ", "n3 false Ready Active"}; fmt.Sprint(nodes) != fmt.Sprint(want) {
		t.Errorf("node ls: %q, want %q", nodes, want)
	}
	if got := c.ok(c.n2, "info", "-f", "{{.Swarm.LocalNodeState}} {{.Swarm.ControlAvailable}}"); got != "active false" {
		t.Errorf("info on a worker: %s", got)
	}
}

func TestDrainLeaveAndRemove(t *testing.T) {
	t.Parallel()
	c := newCluster(t, "drain")
	c.create(c.n1, "--name", "web", "--replicas", "3", "busybox", "sleep", "1d")
	on := func(node string) int {
		return len(c.rows(c.n1, "node", "ps", node, "--filter", "desired-state=running", "-q"))
	}
	if on("n3") != 1 {
		t.Errorf("three replicas on three nodes, but %d on n3", on("n3"))
	}
	c.ok(c.n1, "node", "update", "--availability", "drain", "n3")
	c.eventually(30*time.Second, "three tasks elsewhere", func() error { return c.running("web", 3) })
	if on("n3") != 0 {
		t.Errorf("%d tasks left on a drained node", on("n3"))
	}
	c.refused(c.n1, 1, "is not down and can't be removed", "node", "rm", "n3")
	if got := c.ok(c.n3, "swarm", "leave"); got != "Node left the swarm." {
		t.Errorf("leave printed %q", got)
	}
	c.eventually(10*time.Second, "n3 is down", func() error { return c.nodeIs("n3", "Down") })
	c.ok(c.n1, "node", "rm", "n3")
	if rows := c.rows(c.n1, "node", "ls", "-q"); len(rows) != 2 {
		t.Errorf("%d nodes after rm", len(rows))
	}
	if left := c.ok(c.n3, "ps", "-aq"); left != "" {
		t.Errorf("containers left on a node that has left: %s", left)
	}
	c.refused(c.n1, 1, "Removing the last manager erases all current state", "swarm", "leave")
	c.ok(c.n1, "swarm", "leave", "--force")
	if got := c.ok(c.n1, "info", "-f", "{{.Swarm.LocalNodeState}}"); got != "inactive" {
		t.Errorf("after leave --force the node is %s", got)
	}
	c.ok(c.n1, "swarm", "init", "--advertise-addr", c.n1.Addr) // and it can begin anew
}

// running tells whether a service has so many running tasks, as `service ls` counts them.
func (c *cluster) running(service string, n int) error {
	got := c.ok(c.n1, "service", "ls", "--filter", "name="+service, "--format", "{{.Name}} {{.Replicas}}")
	for line := range strings.Lines(got) {
		if fields := strings.Fields(line); fields[0] == service && fields[1] == fmt.Sprintf("%d/%d", n, n) {
			return nil
		}
	}
	return fmt.Errorf("service ls says %q", got)
}

func (c *cluster) nodeIs(name, state string) error {
	if slices.Contains(c.rows(c.n1, "node", "ls", "--format", "{{.Hostname}} {{.Status}}"), name+" "+state) {
		return nil
	}
	return errors.New(name + " is not " + state)
}

func TestAKilledNodeLosesItsTasksAndComesBack(t *testing.T) {
	c := newCluster(t, "killed")
	c.create(c.n1, "--name", "web", "--replicas", "6", "busybox", "sleep", "1d")
	if err := c.n3.Kill(); err != nil {
		t.Fatal(err)
	}
	if err := c.n3.KillShims(); err != nil {
		t.Fatal(err)
	}
	c.eventually(15*time.Second, "n3 is down", func() error { return c.nodeIs("n3", "Down") })
	c.eventually(15*time.Second, "six tasks elsewhere", func() error {
		rows := c.rows(c.n1, "service", "ps", "web", "--filter", "desired-state=running", "--format", "{{.Node}} {{.CurrentState}}")
		ready := 0
		for _, row := range rows {
			if !strings.HasPrefix(row, "n3 ") && strings.Contains(row, " Running") {
				ready++
			}
		}
		if ready != 6 {
			return fmt.Errorf("%q", rows)
		}
		return nil
	})
	if err := c.n3.Start(); err != nil {
		t.Fatal(err)
	}
	c.eventually(15*time.Second, "n3 is ready again", func() error { return c.nodeIs("n3", "Ready") })
	c.eventually(15*time.Second, "no ghost on n3", func() error {
		if left := c.ok(c.n3, "ps", "-q"); left != "" {
			return fmt.Errorf("containers %s", left)
		}
		return nil
	})
	if err := c.running("web", 6); err != nil {
		t.Error(err)
	}
	total := 0
	for _, n := range c.Nodes() {
		total += len(c.rows(n, "ps", "-q"))
	}
	if total != 6 {
		t.Errorf("%d containers run for six replicas", total)
	}
}
