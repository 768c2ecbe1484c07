// Package testcluster is a whole cluster in one process: managers and agents as the daemon assembles them, over a network, a replicated
// log, containers and kernels that are stand-ins in memory. It runs in testing/synctest, so that time passes only while everybody
// waits. It reads and writes what its tests tell it to, and temporary folders. See docs/testcluster.md.
package testcluster

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/shoal-dev/shoal/internal/membership"
	"github.com/shoal-dev/shoal/internal/shoal"
	"github.com/shoal-dev/shoal/internal/store"
)

// Config is the cluster that a test begins with.
type Config struct {
	// Managers are m1, m2, …; at least one. Workers are w1, w2, ….
	Managers, Workers int
	// Spare machines s1, s2, … have a daemon that is part of no cluster.
	Spare int
	// Seed decides what the stand-ins leave to chance.
	Seed uint64
	// Spec is what the cluster is founded with.
	Spec shoal.ClusterSpec
}

// Cluster is a cluster of machines. Its methods fail the test when they cannot do what they say; unless they say otherwise, they are
// called from the goroutine of the test.
type Cluster struct {
	t          *testing.T
	log        *slog.Logger
	logged     *buffer
	network    *network
	replicated *replicatedLog
	machines   []*Machine

	mu     sync.Mutex // guards images, stops, lives
	images map[string]Image
	stops  []Stop
	lives  []*daemon
}

// Test runs a test on a new cluster, in a bubble of its own.
func Test(t *testing.T, cfg Config, test func(t *testing.T, c *Cluster)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) { test(t, newCluster(t, cfg)) })
}

func newCluster(t *testing.T, cfg Config) *Cluster {
	logged := &buffer{}
	n := newNetwork()
	c := &Cluster{
		t: t, network: n, replicated: newReplicatedLog(n, cfg.Seed), images: map[string]Image{}, logged: logged,
		log: slog.New(slog.NewTextHandler(logged, &slog.HandlerOptions{Level: slog.LevelDebug})),
	}
	t.Cleanup(c.close)
	for _, group := range []struct {
		prefix string
		count  int
	}{{"m", cfg.Managers}, {"w", cfg.Workers}, {"s", cfg.Spare}} {
		for i := range group.count {
			c.addMachine(fmt.Sprint(group.prefix, i+1))
		}
	}
	c.found(cfg)
	return c
}

// found makes the first machine found the cluster and the others join it.
func (c *Cluster) found(cfg Config) {
	c.t.Helper()
	first := c.machines[0]
	if cfg.Spec.TaskHistoryLimit == 0 {
		cfg.Spec.TaskHistoryLimit = shoal.DefaultTaskHistoryLimit
	}
	_, err := first.running().members.Init(c.t.Context(), membership.InitRequest{
		ListenAddr: first.Addr.String(), AdvertiseAddr: first.Addr.String(), Spec: cfg.Spec,
	})
	if err != nil {
		c.t.Fatalf("found the cluster: %v", err)
	}
	first.nodeID = first.Info().NodeID
	for i, m := range c.machines[1 : cfg.Managers+cfg.Workers] {
		role := shoal.RoleWorker
		if i+1 < cfg.Managers {
			role = shoal.RoleManager
		}
		c.Join(m.Name, role)
	}
}

func (c *Cluster) addMachine(name string) {
	const subnet = 10
	m := &Machine{
		Name: name, cluster: c, kernel: &kernel{}, dir: c.t.TempDir(),
		Addr: netip.AddrFrom4([4]byte{subnet, 0, 0, byte(len(c.machines) + 1)}),
	}
	m.containers = &containers{machine: m, all: map[string]*Container{}}
	c.machines = append(c.machines, m)
	c.Start(name)
}

// close ends everything, so that no goroutine is left in the bubble.
func (c *Cluster) close() {
	for _, m := range c.machines {
		m.kernel.release()
		m.stall(false)
		if d := m.replace(nil); d != nil {
			d.kill()
		}
	}
	for _, d := range c.lives {
		<-d.ended
	}
	const leftovers = 5 * time.Minute // what goes on after its request has limits of its own, below this
	time.Sleep(leftovers)
	for _, violation := range c.replicated.invariants.found() {
		c.t.Errorf("an invariant was broken: %s", violation)
	}
	if c.t.Failed() {
		c.t.Logf("%s%s", c.network, c.logged)
	}
}

// buffer keeps the daemons' logs for the report of a failed test.
type buffer struct {
	mu   sync.Mutex // guards text
	text bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.String()
}

// Context bounds a request of a patient user.
func (c *Cluster) context() (context.Context, context.CancelFunc) {
	const limit = time.Minute
	return context.WithTimeout(c.t.Context(), limit)
}

// Machine finds a machine by its name.
func (c *Cluster) Machine(name string) *Machine {
	c.t.Helper()
	i := slices.IndexFunc(c.machines, func(m *Machine) bool { return m.Name == name })
	if i < 0 {
		c.t.Fatalf("there is no machine %s", name)
	}
	return c.machines[i]
}

// Machines are all machines.
func (c *Cluster) Machines() []*Machine { return c.machines }

// Leader is the machine that leads the newest term; the test waits until there is one.
func (c *Cluster) Leader() *Machine {
	c.t.Helper()
	var leader *Machine
	c.Eventually(func(store.View) string {
		if leader = c.leader(); leader == nil {
			return "nobody leads"
		}
		return ""
	})
	return leader
}

// leader is the machine that leads and has the newest epoch; nil if there is none.
func (c *Cluster) leader() *Machine {
	var leader *Machine
	var newest uint64
	for _, m := range c.machines {
		if epoch := m.Epoch(); m.Leads() && epoch > newest {
			leader, newest = m, epoch
		}
	}
	return leader
}

// View is the cluster's state as the leader knows it, or any manager while there is none.
func (c *Cluster) View() store.View {
	if s := c.store(); s != nil {
		return s.View()
	}
	return store.View{}
}

// store is that of the leader, or of any manager while there is none.
func (c *Cluster) store() *store.Store {
	if m := c.leader(); m != nil {
		if s := m.Store(); s != nil {
			return s
		}
	}
	for _, m := range c.machines {
		if s := m.Store(); s != nil {
			return s
		}
	}
	return nil
}

// Eventually waits until the cluster is as described; the reason tells what is amiss, and is empty when nothing is. It gives the time
// that it took.
func (c *Cluster) Eventually(reason func(store.View) string) time.Duration {
	c.t.Helper()
	const limit = 2 * time.Minute
	return c.Within(limit, reason)
}

// Within is Eventually with a limit.
func (c *Cluster) Within(limit time.Duration, reason func(store.View) string) time.Duration {
	c.t.Helper()
	const look = 5 * time.Millisecond
	for start := time.Now(); ; time.Sleep(look) {
		synctest.Wait()
		why := "no manager has the cluster's state"
		if s := c.store(); s != nil {
			why = reason(s.View())
		}
		if why == "" {
			return time.Since(start)
		}
		if time.Since(start) > limit {
			c.t.Fatalf("not within %v: %s\n%s", limit, why, c.describe())
		}
	}
}

// Throughout checks an invariant at every revision of the state, as one manager comes to know it, from now until do has returned.
func (c *Cluster) Throughout(witness string, invariant func(store.View) string, do func()) {
	c.t.Helper()
	view, sub := c.Machine(witness).Store().Subscribe()
	defer sub.Close()
	if why := invariant(view); why != "" {
		c.t.Fatalf("from the start: %s\n%s", why, c.describe())
	}
	do()
	synctest.Wait()
	for _, batch := range sub.Take() {
		if why := invariant(batch.View); why != "" {
			c.t.Fatalf("at revision %d: %s", batch.View.Revision(), why)
		}
	}
}

// describe is the nodes and tasks, for the reports of failed tests.
func (c *Cluster) describe() string {
	s := c.store()
	if s == nil {
		return ""
	}
	v := s.View()
	var text strings.Builder
	for _, n := range v.Nodes() {
		fmt.Fprintf(&text, "node %s %s: %s %s %s", n.Description.Hostname, n.ID, n.Spec.Role, n.Spec.Availability, n.Status.State)
		if n.Manager != nil {
			fmt.Fprintf(&text, ", member %s at %s", n.Manager.MemberID, n.Manager.Addr)
		}
		fmt.Fprintln(&text)
	}
	for _, t := range v.Tasks() {
		fmt.Fprintf(&text, "task %s.%d %s on %s: %s, wants %s %s\n",
			t.ServiceName, t.Slot, t.ID, c.nameOf(t.NodeID), t.Status.State, t.DesiredState, t.Status.Err)
	}
	return text.String()
}
