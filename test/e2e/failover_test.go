package e2e

import (
	"cmp"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/moby/moby/api/types/swarm"
	"github.com/moby/moby/client"

	"github.com/shoal-dev/shoal/test/lab"
	"github.com/shoal-dev/shoal/test/load"
)

// The leader is killed again and again: no acknowledged write is lost, nothing is acknowledged twice over the same version, and no
// request fails on any node. It prints how soon after the kill a write was accepted, and how soon a service that was scaled then had all its tasks.
func TestTheLeaderIsKilledUnderWrites(t *testing.T) {
	kills := 3
	if nightly {
		kills = 100
	}
	seed := chaosSeed(t)
	c := newManagers(t, "writes")
	c.create(c.n1, "--name", "web", "-p", "8080:80", "--replicas", "3", "--stop-grace-period", "2s", "srv:1")
	traffic := c.startTraffic(load.Config{URLs: c.everyNode(8080), Pause: 10 * time.Millisecond})
	var away atomic.Pointer[lab.Node]
	registers := c.writeRegisters(seed, func(random *rand.Rand) *lab.Node {
		for {
			if n := c.Nodes()[random.IntN(3)]; n != away.Load() {
				return n
			}
		}
	})
	var accepted, converged []time.Duration
	for i := range kills {
		leader := c.leader(c.n1)
		away.Store(leader)
		began := time.Now()
		if err := leader.Kill(); err != nil {
			t.Fatal(err)
		}
		other := c.Nodes()[slices.IndexFunc(c.Nodes(), func(n *lab.Node) bool { return n != leader })]
		c.firstWrite(other, fmt.Sprint("after-", i))
		accepted = append(accepted, time.Since(began))
		c.scaleAndWait(other, "web", uint64(3+(i+1)%2)) // #nosec G115 -- a small number
		converged = append(converged, time.Since(began))
		if err := leader.Start(); err != nil {
			t.Fatal(err)
		}
		c.allAreManagers(leader)
		away.Store(nil)
	}
	traffic.finish()
	registers.check(t)
	t.Logf("after %d kills a write was accepted in %s, and a scaled service had all its tasks in %s", kills, quantiles(accepted), quantiles(converged))
}

// firstWrite tries until a write is accepted.
func (c *cluster) firstWrite(n *lab.Node, name string) {
	c.t.Helper()
	api := c.api(n)
	defer func() { _ = api.Close() }()
	spec := swarm.ConfigSpec{Annotations: swarm.Annotations{Name: name}, Data: []byte("x")}
	c.eventually(30*time.Second, "a write is accepted", func() error {
		_, err := api.ConfigCreate(c.t.Context(), client.ConfigCreateOptions{Spec: spec})
		if err != nil && strings.Contains(err.Error(), "already exists") {
			return nil // an earlier try was accepted, though its answer was lost
		}
		return err
	})
}

// scaleAndWait scales a service and waits until so many tasks of it run.
func (c *cluster) scaleAndWait(n *lab.Node, service string, replicas uint64) {
	c.t.Helper()
	api := c.api(n)
	defer func() { _ = api.Close() }()
	ctx := c.t.Context()
	c.eventually(30*time.Second, "the service is scaled", func() error {
		found, err := api.ServiceInspect(ctx, service, client.ServiceInspectOptions{})
		if err != nil {
			return err
		}
		spec := found.Service.Spec
		spec.Mode.Replicated.Replicas = &replicas
		_, err = api.ServiceUpdate(ctx, found.Service.ID, client.ServiceUpdateOptions{Version: found.Service.Version, Spec: spec})
		return err
	})
	c.eventually(30*time.Second, "its tasks run", func() error {
		list, err := api.TaskList(ctx, client.TaskListOptions{Filters: make(client.Filters).Add("service", service).Add("desired-state", "running")})
		if err != nil {
			return err
		}
		running := uint64(0)
		for _, t := range list.Items {
			if t.Status.State == swarm.TaskStateRunning {
				running++
			}
		}
		if running != replicas || uint64(len(list.Items)) != replicas {
			return fmt.Errorf("%d of %d tasks run", running, len(list.Items))
		}
		return nil
	})
}

// allAreManagers waits until a manager that was started again is one of three that answer.
func (c *cluster) allAreManagers(n *lab.Node) {
	c.t.Helper()
	c.eventually(30*time.Second, n.Name+" is a manager again", func() error {
		r := c.docker(n, "node", "ls", "--format", "{{.Status}} {{.ManagerStatus}}")
		if strings.Count(r.Stdout, "Ready Reachable") != 2 || strings.Count(r.Stdout, "Ready Leader") != 1 {
			return errors.New(r.Text())
		}
		return nil
	})
}

// quantiles is the median, the 99th percentile and the longest.
func quantiles(all []time.Duration) string {
	all = slices.SortedFunc(slices.Values(all), cmp.Compare)
	at := func(q float64) time.Duration { return all[int(q*float64(len(all)-1))].Round(time.Millisecond) }
	return fmt.Sprintf("p50 %v, p99 %v, at most %v", at(0.5), at(0.99), at(1))
}
