package e2e

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/shoal-dev/shoal/test/lab"
)

// newManagers makes a cluster of three managers, joined with the manager token; n1 leads.
func newManagers(t *testing.T, name string) *cluster {
	t.Helper()
	c := newLab(t, name)
	c.loadImages(c.n1, c.n2, c.n3)
	c.ok(c.n1, "swarm", "init", "--advertise-addr", c.n1.Addr)
	token := c.ok(c.n1, "swarm", "join-token", "-q", "manager")
	for _, n := range []*lab.Node{c.n2, c.n3} {
		if got := c.ok(n, "swarm", "join", "--token", token, c.n1.Addr+":2377"); got != "This node joined a swarm as a manager." {
			t.Errorf("join printed %q", got)
		}
	}
	return c
}

// managerStatus waits until a node's `node ls` shows these manager statuses for n1, n2 and n3. An * stands for one Leader and any
// number of Reachable.
func (c *cluster) managerStatus(n *lab.Node, want ...string) {
	c.t.Helper()
	c.eventually(20*time.Second, fmt.Sprintf("%s sees managers %q", n.Name, want), func() error {
		r := c.docker(n, "node", "ls", "--format", "{{.Hostname}}={{.ManagerStatus}}")
		if r.Code != 0 {
			return errors.New(r.Text())
		}
		got := strings.Fields(r.Text())
		slices.Sort(got)
		for i, w := range want {
			if i >= len(got) || got[i] != fmt.Sprintf("n%d=%s", i+1, w) {
				return fmt.Errorf("%q", got)
			}
		}
		return nil
	})
}

// leader is the node that leads as another one sees it.
func (c *cluster) leader(seenFrom *lab.Node) *lab.Node {
	c.t.Helper()
	var leader *lab.Node
	c.eventually(20*time.Second, "there is a leader", func() error {
		r := c.docker(seenFrom, "node", "ls", "--format", "{{.Hostname}} {{.ManagerStatus}}")
		for _, n := range c.Nodes() {
			if slices.Contains(strings.Split(r.Text(), "\n"), n.Name+" Leader") {
				leader = n
				return nil
			}
		}
		return errors.New(r.Text())
	})
	return leader
}

func TestEveryManagerServesTheCluster(t *testing.T) {
	t.Parallel()
	c := newManagers(t, "mgrs")
	for _, n := range c.Nodes() {
		c.managerStatus(n, "Leader", "Reachable", "Reachable")
	}
	c.create(c.n2, "--name", "web", "--replicas", "3", "busybox", "sh", "-c", "echo hello from $HOSTNAME; exec sleep 1d")
	c.eventually(20*time.Second, "three tasks", func() error { return c.running("web", 3) })
	for _, n := range c.Nodes() {
		if got := c.rows(n, "service", "logs", "--raw", "web"); len(got) != 3 {
			t.Errorf("logs read on %s: %q", n.Name, got)
		}
	}
	c.refused(c.n1, 1, "is a cluster manager and is a member of the raft cluster. It must be demoted to worker before removal", "node", "rm", "n2")
	c.refused(c.n1, 1, "You are attempting to leave the swarm on a node that is participating as a manager.", "swarm", "leave")
}

func TestPromoteAndDemote(t *testing.T) {
	t.Parallel()
	c := newCluster(t, "roles")
	c.refused(c.n1, 1, "attempting to demote the last manager of the swarm", "node", "demote", "n1")
	for range 2 { // demoting and promoting again works
		if got := c.ok(c.n1, "node", "promote", "n2"); got != "Node n2 promoted to a manager in the swarm." {
			t.Errorf("promote printed %q", got)
		}
		c.managerStatus(c.n2, "Leader", "Reachable", "")
		if got := c.ok(c.n1, "node", "promote", "n2"); !strings.Contains(got, "is already a manager.") {
			t.Errorf("promote printed %q", got)
		}
		if got := c.ok(c.n1, "node", "demote", "n2"); got != "Manager n2 demoted in the swarm." {
			t.Errorf("demote printed %q", got)
		}
		c.eventually(10*time.Second, "n2 is a worker", func() error {
			if r := c.docker(c.n2, "node", "ls"); !strings.Contains(r.Text(), "Worker nodes can't be used") {
				return errors.New(r.Text())
			}
			return nil
		})
		c.managerStatus(c.n1, "Leader", "", "")
	}
	c.ok(c.n1, "node", "demote", "n2") // back and forth without waiting
	c.ok(c.n1, "node", "promote", "n2", "n3")
	c.ok(c.n1, "node", "demote", "n2")
	c.ok(c.n1, "node", "promote", "n2")
	c.managerStatus(c.n2, "Leader", "Reachable", "Reachable")
	c.managerStatus(c.n3, "Leader", "Reachable", "Reachable")
	c.ok(c.n2, "node", "demote", "n1") // the leader itself
	c.eventually(10*time.Second, "n1 is a worker", func() error {
		if r := c.docker(c.n1, "node", "ls"); !strings.Contains(r.Text(), "Worker nodes can't be used") {
			return errors.New(r.Text())
		}
		return nil
	})
	leader := c.leader(c.n2)
	c.ok(leader, "swarm", "leave", "--force") // and the leader leaves
	c.eventually(10*time.Second, "the last manager works", func() error {
		other := c.n2
		if leader == c.n2 {
			other = c.n3
		}
		if r := c.docker(other, "service", "create", "-d", "--name", "web", "busybox", "sleep", "1d"); r.Code != 0 {
			return errors.New(r.Text())
		}
		return nil
	})
}

func TestTheLeaderIsKilled(t *testing.T) {
	c := newManagers(t, "failover")
	c.create(c.n1, "--name", "web", "--replicas", "6", "busybox", "sleep", "1d")
	c.managerStatus(c.n2, "Leader", "Reachable", "Reachable")
	begin := time.Now()
	if err := c.n1.Kill(); err != nil {
		t.Fatal(err)
	}
	if err := c.n1.KillShims(); err != nil {
		t.Fatal(err)
	}
	if got := c.ok(c.n2, "service", "create", "-d", "--name", "after", "--replicas", "2", "busybox", "sleep", "1d"); got == "" {
		t.Error("service create printed nothing")
	}
	t.Logf("a service was created %v after the leader was killed", time.Since(begin))
	c.eventually(20*time.Second, "eight tasks run on the others", func() error {
		rows := strings.Split(c.docker(c.n2, "node", "ps", "n2", "n3", "--filter", "desired-state=running", "--format", "{{.ID}} {{.CurrentState}}").Text(), "\n")
		slices.Sort(rows)
		if n := len(slices.Compact(rows)); n != 8 || strings.Count(strings.Join(rows, "\n"), "Running") < 8 {
			return fmt.Errorf("%d: %q", n, rows)
		}
		return nil
	})
	t.Logf("all tasks ran elsewhere after %v", time.Since(begin))
	begin = time.Now()
	if err := c.n1.Start(); err != nil {
		t.Fatal(err)
	}
	t.Logf("its daemon answered %v after its start", time.Since(begin))
	c.eventually(20*time.Second, "n1 is a manager again", func() error {
		for _, n := range []*lab.Node{c.n1, c.n2} {
			rows := strings.Split(c.docker(n, "node", "ls", "--format", "{{.Hostname}} {{.Status}} {{.ManagerStatus}}").Text(), "\n")
			if !slices.Contains(rows, "n1 Ready Reachable") {
				return fmt.Errorf("%q", rows)
			}
		}
		return nil
	})
	c.eventually(10*time.Second, "no ghost on n1", func() error {
		if left := c.docker(c.n1, "ps", "-q").Text(); left != "" {
			return errors.New(left)
		}
		return nil
	})
	total := 0
	for _, n := range c.Nodes() {
		total += len(c.rows(n, "ps", "-q"))
	}
	if total != 8 {
		t.Errorf("%d containers run for eight replicas", total)
	}
}

func TestAllManagersRestart(t *testing.T) {
	t.Parallel()
	c := newManagers(t, "restart")
	c.create(c.n1, "--name", "web", "--replicas", "3", "busybox", "sleep", "1d")
	before := map[string][]string{}
	for _, n := range c.Nodes() {
		before[n.Name] = c.rows(n, "ps", "-q", "--no-trunc")
	}
	for _, n := range c.Nodes() {
		if err := n.Kill(); err != nil {
			t.Fatal(err)
		}
	}
	if err := c.n1.Start(); err != nil {
		t.Fatal(err)
	}
	c.refused(c.n1, 1, "The swarm does not have a leader. It's possible that too few managers are online.", "node", "ls")
	for _, n := range []*lab.Node{c.n2, c.n3} {
		if err := n.Start(); err != nil {
			t.Fatal(err)
		}
	}
	leader := c.leader(c.n1)
	c.eventually(20*time.Second, "all nodes are ready", func() error {
		rows := strings.Split(c.docker(leader, "node", "ls", "--format", "{{.Status}} {{.ManagerStatus}}").Text(), "\n")
		slices.Sort(rows)
		if want := []string{"Ready Leader", "Ready Reachable", "Ready Reachable"}; !slices.Equal(rows, want) {
			return fmt.Errorf("%q", rows)
		}
		return nil
	})
	for _, n := range c.Nodes() {
		if after := c.rows(n, "ps", "-q", "--no-trunc"); !slices.Equal(after, before[n.Name]) {
			t.Errorf("containers on %s: %q, before the restart %q", n.Name, after, before[n.Name])
		}
	}
	c.scale(c.n3, "web", 4)
}

func TestRootRotation(t *testing.T) {
	t.Parallel()
	c := newCluster(t, "ca")
	c.ok(c.n1, "node", "promote", "n2")
	c.managerStatus(c.n2, "Leader", "Reachable", "")
	c.create(c.n1, "--name", "web", "--replicas", "3", "busybox", "sleep", "1d")
	old, token := c.ok(c.n1, "swarm", "ca"), c.ok(c.n1, "swarm", "join-token", "-q", "worker")
	for range 2 {
		c.ok(c.n1, "swarm", "ca", "--rotate", "-q")
	}
	rotated := c.ok(c.n2, "swarm", "ca")
	if rotated == old || !strings.HasPrefix(rotated, "-----BEGIN CERTIFICATE-----") {
		t.Errorf("after the rotation the root is\n%s", rotated)
	}
	for _, n := range []string{"n1", "n2", "n3"} {
		if got := c.ok(c.n1, "node", "inspect", n, "-f", "{{.Description.TLSInfo.TrustRoot}}"); got != rotated {
			t.Errorf("%s trusts\n%s", n, got)
		}
	}
	if got := c.ok(c.n1, "info", "-f", "{{.Swarm.Cluster.RootRotationInProgress}}"); got != "false" {
		t.Errorf("in progress: %s", got)
	}
	for _, n := range c.Nodes() { // nobody needs the old root to start again
		if err := n.Kill(); err != nil {
			t.Fatal(err)
		}
		if err := n.Start(); err != nil {
			t.Fatal(err)
		}
	}
	c.leader(c.n1)
	c.eventually(20*time.Second, "all nodes are ready", func() error {
		rows := strings.Split(c.docker(c.n1, "node", "ls", "--format", "{{.Status}}").Text(), "\n")
		if !slices.Equal(rows, []string{"Ready", "Ready", "Ready"}) {
			return fmt.Errorf("%q", rows)
		}
		return nil
	})
	c.ok(c.n3, "swarm", "leave")
	c.refused(c.n3, 1, "remote CA does not match fingerprint", "swarm", "join", "--token", token, c.n1.Addr+":2377")
	c.ok(c.n3, "swarm", "join", "--token", c.ok(c.n1, "swarm", "join-token", "-q", "worker"), c.n1.Addr+":2377")
}

func TestTheLeaderIsCutOff(t *testing.T) {
	c := newManagers(t, "cut")
	c.create(c.n1, "--name", "web", "--replicas", "3", "busybox", "sleep", "1d")
	c.managerStatus(c.n2, "Leader", "Reachable", "Reachable")
	begin := time.Now()
	if err := c.n1.Cut(); err != nil { // nobody is told: there is only silence
		t.Fatal(err)
	}
	c.ok(c.n2, "service", "create", "-d", "--name", "after", "busybox", "sleep", "1d")
	t.Logf("a service was created %v after the leader was cut off", time.Since(begin))
	c.managerStatus(c.n2, "Unreachable")
	t.Logf("the old leader was Unreachable after %v", time.Since(begin))
	c.eventually(20*time.Second, "four tasks run on the others", func() error {
		rows := strings.Split(c.docker(c.n3, "node", "ps", "n2", "n3", "--filter", "desired-state=running", "--format", "{{.ID}} {{.CurrentState}}").Text(), "\n")
		slices.Sort(rows)
		if n := len(slices.Compact(rows)); n != 4 || strings.Count(strings.Join(rows, "\n"), "Running") < 4 {
			return fmt.Errorf("%d: %q", n, rows)
		}
		return nil
	})
	t.Logf("all tasks ran elsewhere after %v", time.Since(begin))
	for _, n := range []string{"n2", "n3"} {
		c.eventually(time.Second, n+" has stayed Ready", func() error {
			if !strings.Contains(c.docker(c.n2, "node", "ls", "--format", "{{.Hostname}} {{.Status}}").Text(), n+" Ready") {
				return errors.New(n)
			}
			return nil
		})
	}
	begin = time.Now()
	if err := c.n1.Mend(); err != nil {
		t.Fatal(err)
	}
	c.eventually(20*time.Second, "n1 is back without ghosts", func() error {
		r := c.docker(c.n1, "node", "ls", "--format", "{{.Hostname}} {{.Status}} {{.ManagerStatus}}")
		if !strings.Contains(r.Text(), "n1 Ready Reachable") {
			return errors.New(r.Text())
		}
		if left := c.docker(c.n1, "ps", "-q").Text(); left != "" {
			return errors.New(left)
		}
		return nil
	})
	t.Logf("it was back without ghosts after %v", time.Since(begin))
}
