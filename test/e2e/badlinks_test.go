package e2e

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/shoal-dev/shoal/test/lab"
	"github.com/shoal-dev/shoal/test/load"
)

// lose makes the links between the nodes lose a share of all packets, in per cent, until heal is called. Clients' links stay as they are.
func (c *cluster) lose(percent int) (heal func()) {
	c.t.Helper()
	nodes := fmt.Sprintf("%s-%s", c.n1.Addr, c.n3.Addr)
	for _, n := range c.Nodes() {
		c.inside(n.Namespace(), "nft", fmt.Sprintf(`add table inet loss; add chain inet loss in { type filter hook input priority -400; };
			add rule inet loss in iifname "eth0" ip saddr %s numgen random mod 100 < %d drop`, nodes, percent))
	}
	return func() {
		for _, n := range c.Nodes() {
			c.inside(n.Namespace(), "nft", "delete table inet loss")
		}
	}
}

// elections counts how often a manager has begun to lead, by the daemons' logs.
func (c *cluster) elections() int {
	c.t.Helper()
	count := 0
	for _, n := range c.Nodes() {
		text, err := os.ReadFile(n.Log())
		if err != nil {
			c.t.Fatal(err)
		}
		count += strings.Count(string(text), `msg="controllers start"`)
	}
	return count
}

// Every fifth packet between the nodes is lost, in both directions: services converge, what is published answers, and when the links are whole again so is
// the cluster, with a leader that stays.
func TestLossyLinks(t *testing.T) {
	if !nightly {
		t.Skip("it takes minutes to converge over such links: make nightly")
	}
	const length, percent = 10 * time.Minute, 20
	const patience = 5 * time.Minute // managers may need several elections in a row to find a leader whose messages arrive
	c := newManagers(t, "loss")
	c.create(c.n1, "--name", "web", "--mode", "global", "-p", "8080:80", "--stop-grace-period", "2s", "srv:1")
	c.create(c.n1, "--name", "work", "--replicas", "3", "busybox", "sleep", "1d")
	random := rand.New(rand.NewPCG(chaosSeed(t), 1))
	traffic := load.Start(t.Context(), load.Config{URLs: c.everyNode(8080), Dial: c.client.Dial, Workers: 4, Pause: 10 * time.Millisecond})
	heal, before, began := c.lose(percent), c.elections(), time.Now()
	operations := 0
	for ; time.Since(began) < length; operations++ {
		args := []string{"service", "scale", "-d", fmt.Sprintf("work=%d", 3+random.IntN(6))}
		if random.IntN(2) == 0 {
			args = []string{"service", "update", "-d", "-q", "--no-resolve-image", "--force", "--update-monitor", "100ms", "work"}
		}
		c.eventually(patience, strings.Join(args, " "), func() error {
			if r := c.docker(c.Nodes()[random.IntN(3)], args...); r.Code != 0 {
				return errors.New(r.Text())
			}
			return nil
		})
		c.eventually(patience, "the service converges", func() error { return c.hasSettled(c.Nodes()[random.IntN(3)], "work") })
	}
	lost := time.Since(began)
	heal()
	elections := c.elections() - before
	traffic.Stop()
	t.Logf("%v with losses: %d operations, %d elections, %d of %d requests failed", lost.Round(time.Second), operations, elections, traffic.Failed(), traffic.Sent())
	if failed := float64(traffic.Failed()) / float64(traffic.Sent()); failed > 0.2 || traffic.Sent() < 100 {
		t.Errorf("%.0f %% of %d requests failed", 100*failed, traffic.Sent())
	}
	if most := 3 + int(lost/(5*time.Second)); elections > most {
		t.Errorf("%d elections in %v, want at most %d", elections, lost, most)
	}
	c.eventually(20*time.Second, "all nodes are ready", c.allReady)
	c.leader(c.n2)
	c.settled(c.n1, "web")
	c.settled(c.n1, "work")
	calm := c.elections()
	after := c.startTraffic(load.Config{URLs: c.everyNode(8080), Pause: 10 * time.Millisecond})
	after.more(300)
	after.finish()
	if now := c.elections(); now != calm {
		t.Errorf("%d elections after the links were whole again", now-calm)
	}
}

// A worker is cut off and brought back under load, for long enough to be given up or not: what is sent to the other nodes fails for a second at most, its
// tasks are replaced, and when it is back no slot has two tasks.
func TestAWorkerIsCutOffUnderLoad(t *testing.T) {
	t.Parallel()
	rounds, longest := 1, time.Duration(0)
	if nightly {
		rounds, longest = 40, 10*time.Second
	}
	c := newCluster(t, "cutoff")
	c.create(c.n1, "--name", "web", "-p", "8080:80", "--replicas", "6", "--stop-grace-period", "2s", "srv:1")
	random := rand.New(rand.NewPCG(chaosSeed(t), 1))
	for round := range rounds {
		victim := []*lab.Node{c.n2, c.n3}[random.IntN(2)]
		givenUp := round%2 == 0 // otherwise it is back before that
		cutFor := time.Duration(random.Int64N(int64(2 * time.Second)))
		if givenUp && longest > 0 {
			cutFor = time.Duration(random.Int64N(int64(longest)))
		}
		c.cutOff(victim, givenUp, cutFor)
		if t.Failed() {
			t.Fatalf("in round %d: %s was cut off, given up: %t", round, victim.Name, givenUp)
		}
	}
}

// cutOff cuts a node off, until it is Down if it is to be given up, and for some time more.
func (c *cluster) cutOff(victim *lab.Node, givenUp bool, cutFor time.Duration) {
	c.t.Helper()
	var urls []string
	for _, n := range c.Nodes() {
		if n != victim {
			urls = append(urls, fmt.Sprintf("http://%s:8080/", n.Addr))
		}
	}
	var mu sync.Mutex // guards failures
	var failures []load.Failure
	l := &traffic{load.Start(c.t.Context(), load.Config{URLs: urls, Dial: c.client.Dial, Workers: 2, Pause: 5 * time.Millisecond, Failed: func(f load.Failure) {
		mu.Lock()
		defer mu.Unlock()
		failures = append(failures, f)
	}}), c}
	l.more(100)
	cut := time.Now()
	if err := victim.Cut(); err != nil {
		c.t.Fatal(err)
	}
	if givenUp {
		c.eventually(30*time.Second, victim.Name+" is down", func() error { return c.nodeIs(victim.Name, "Down") })
		c.eventually(30*time.Second, "its tasks are replaced", func() error { return c.slotsOf("web", 6, victim) })
	}
	time.Sleep(cutFor) // that it stays away is what is tried
	if err := victim.Mend(); err != nil {
		c.t.Fatal(err)
	}
	c.eventually(30*time.Second, victim.Name+" is ready", func() error { return c.nodeIs(victim.Name, "Ready") })
	c.settled(c.n1, "web")
	c.eventually(30*time.Second, "each slot has one task, on each node what the managers say", func() error {
		containers := 0
		for _, n := range c.Nodes() {
			containers += len(c.rows(n, "ps", "-q", "--filter", "label=com.docker.swarm.service.name=web"))
		}
		if containers != 6 {
			return fmt.Errorf("%d containers run", containers)
		}
		return c.slotsOf("web", 6, nil)
	})
	l.more(100)
	l.Stop()
	for _, f := range failures {
		if late := f.Began.Sub(cut); late > tolerance {
			c.t.Errorf("%v after the cut: %v", late.Round(time.Millisecond), f)
		}
	}
	c.t.Logf("%s cut off for %v: %d requests, %d failed", victim.Name, time.Since(cut).Round(time.Second), l.Sent(), l.Failed())
}

// slotsOf tells whether so many slots of a service have one task each that runs and is meant to, none of them on a node.
func (c *cluster) slotsOf(service string, slots int, notOn *lab.Node) error {
	rows := c.rows(c.n1, "service", "ps", service, "--filter", "desired-state=running", "--format", "{{.Name}} {{.Node}} {{.CurrentState}}")
	var names []string
	for _, row := range rows {
		fields := strings.Fields(row)
		if len(fields) < 3 || fields[2] != "Running" || notOn != nil && fields[1] == notOn.Name {
			return fmt.Errorf("%q", rows)
		}
		names = append(names, fields[0])
	}
	slices.Sort(names)
	if len(slices.Compact(names)) != slots || len(rows) != slots {
		return fmt.Errorf("%q", rows)
	}
	return nil
}
