package vm

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"
)

// cluster is three managers, each a machine. The first's ledger is also about what they share.
type cluster struct {
	*testing.T
	nodes []*node
}

// newCluster starts the machines and makes managers of them, with a service on all of them.
func newCluster(t *testing.T) *cluster {
	t.Helper()
	dir, err := os.MkdirTemp(filepath.Join(tree(), ".cache", "vm"), "net-*") //nolint:usetesting // sockets' paths are short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	b, prefixes := base(t), []string{"a-", "b-", "c-"}
	network, err := NewNetwork(dir, len(prefixes))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := network.Close(); err != nil {
			t.Error(err)
		}
	})
	c := &cluster{T: t}
	for i, prefix := range prefixes {
		n := newMachine(t, Config{Base: b, Network: network, Place: i + 1})
		n.prefix, n.shared, n.tasks = prefix, prefixes[0], len(prefixes)
		c.nodes = append(c.nodes, n)
	}
	c.each(func(n *node) { n.boot(); n.loadImages(); n.webContent() })
	first := c.nodes[0]
	// Three such machines on one processor are slower still.
	first.run("shoal swarm init --dispatcher-heartbeat 1m --advertise-addr " + first.machine.Address())
	token := first.run("shoal swarm join-token -q manager")
	for _, n := range c.nodes[1:] {
		n.run(fmt.Sprintf("shoal swarm join --token %s --advertise-addr %s %s:2377", token, n.machine.Address(), first.machine.Address()))
	}
	first.serve()
	for _, n := range c.nodes {
		n.furnish()
	}
	c.settled("all works")
	return c
}

// each does something with all nodes at once.
func (c *cluster) each(do func(*node)) {
	c.Helper()
	var wg sync.WaitGroup
	for _, n := range c.nodes {
		wg.Go(func() { do(n) })
	}
	wg.Wait()
	if c.Failed() {
		c.FailNow() // one that fails ends itself only
	}
}

// settled waits until all that any node has acknowledged is there and works, on each, and the cluster can be changed.
func (c *cluster) settled(what string) time.Duration {
	c.Helper()
	took := c.nodes[0].within(settleLimit, what, c.works)
	for _, n := range c.nodes {
		if aside := n.aside(); aside != "" {
			c.Errorf("%s, but this was set aside by %s: %s", what, n.prefix, aside)
		}
	}
	c.nodes[0].change()
	return took
}

// works is as of a node.
func (c *cluster) works() error {
	tasks, addresses := map[string]bool{}, []string{}
	for _, n := range c.nodes {
		containers, err := n.kept()
		if err == nil {
			err = n.containersRun(containers)
		}
		if err != nil {
			return fmt.Errorf("%s: %w", n.prefix, err)
		}
		for task := range runningTasks(containers) {
			tasks[task] = true
		}
		addresses = append(addresses, n.machine.Address())
	}
	if err := c.nodes[0].servicesRun(tasks); err != nil {
		return err
	}
	for _, n := range c.nodes {
		if err := n.answers(addresses...); err != nil {
			return fmt.Errorf("%s: %w", n.prefix, err)
		}
	}
	return nil
}

func (c *cluster) churn(round int, random *rand.Rand) {
	c.Helper()
	for _, n := range c.nodes {
		n.churn(round, random, "secret", "volume")
	}
}

// leader is the node that leads the managers.
func (c *cluster) leader() *node {
	c.Helper()
	for _, n := range c.nodes {
		if n.run("shoal node inspect self -f '{{.ManagerStatus.Leader}}'") == "true" {
			return n
		}
	}
	c.Fatal("nobody leads")
	return nil
}

// stopChurn lets the steps end that were begun.
func (n *node) stopChurn() {
	n.Helper()
	n.run("touch /run/churn-stop; for i in $(seq 280); do pgrep churn.sh >/dev/null || break; sleep 1; done; ! pgrep churn.sh && rm /run/churn-stop")
}

// The power of the managers' leader goes, then that of all three at once.
func TestNothingAMajorityAcknowledgedIsLost(t *testing.T) {
	c := newCluster(t)
	seed := uint64(setting(t, "SHOAL_VM_SEED", int(time.Now().Unix())))
	t.Logf("seed %d (SHOAL_VM_SEED)", seed)
	random := rand.New(rand.NewPCG(seed, 0))

	c.churn(0, random)
	off := c.leader()
	others := slices.DeleteFunc(slices.Clone(c.nodes), func(n *node) bool { return n == off })
	if err := off.machine.Cut(); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	for _, n := range others {
		n.acknowledges("secret") // without the third
	}
	t.Logf("the two others acknowledge secrets %v after the leader's power went", time.Since(began).Round(time.Second))
	for _, n := range others {
		n.within(settleLimit, "the published port answers while a manager is off", func() error {
			return n.answers(others[0].machine.Address(), others[1].machine.Address())
		})
		n.stopChurn()
	}
	up := off.boot()
	t.Logf("one of three: API after %v, all of it %v later, %d acknowledged", up, c.settled("all is back after a power cut of one"), c.acknowledged())

	c.churn(1, random)
	const longest = 15 * time.Second
	<-time.After(time.Duration(random.Int64N(int64(longest))))
	var errs []error
	for _, n := range c.nodes {
		errs = append(errs, n.machine.Cut())
	}
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
	began = time.Now()
	c.each(func(n *node) { n.boot() })
	t.Logf("three of three: APIs after %v, all of it %v later, %d acknowledged", time.Since(began).Round(time.Second), c.settled("all is back after a power cut of all"), c.acknowledged())
}

// acknowledged is how many steps were, of all nodes.
func (c *cluster) acknowledged() int {
	sum := 0
	for _, n := range c.nodes {
		sum += n.ledger.Acks
	}
	return sum
}
