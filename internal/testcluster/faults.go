package testcluster

import (
	"time"

	"github.com/shoal-dev/shoal/internal/membership"
	"github.com/shoal-dev/shoal/internal/shoal"
)

// Start starts a machine's daemon, and before that the machine, if it has no power.
func (c *Cluster) Start(name string) {
	c.t.Helper()
	m := c.Machine(name)
	if m.running() != nil {
		c.t.Fatalf("the daemon of %s runs already", name)
	}
	c.network.setPower(m.Addr, true)
	for _, d := range c.lives {
		if d.machine == m {
			<-d.ended // what is left of an earlier life in this process
		}
	}
	d := m.newDaemon()
	c.lives = append(c.lives, d)
	m.replace(d)
	if err := d.start(); err != nil {
		c.t.Fatalf("start the daemon of %s: %v", name, err)
	}
}

// Stop ends a machine's daemon in good order; containers run on.
func (c *Cluster) Stop(name string) {
	c.t.Helper()
	m := c.Machine(name)
	m.stall(false)
	d := m.replace(nil)
	if d == nil {
		c.t.Fatalf("the daemon of %s does not run", name)
	}
	d.stop()
}

// Kill ends a machine's daemon as SIGKILL does: containers run on, its connections are reset.
func (c *Cluster) Kill(name string) {
	c.t.Helper()
	m := c.Machine(name)
	d := m.replace(nil)
	if d == nil {
		c.t.Fatalf("the daemon of %s does not run", name)
	}
	d.kill()
	m.stall(false)
}

// PowerOff takes a machine's power: its containers end, and its peers hear nothing of it.
func (c *Cluster) PowerOff(name string) {
	c.t.Helper()
	m := c.Machine(name)
	c.network.setPower(m.Addr, false)
	if m.running() != nil {
		c.Kill(name)
	}
	m.containers.losePower()
	_ = m.kernel.clear(c.t.Context()) // never fails
}

// FailStore ends a manager's store member as a failing disk does: the member stops by itself, its data stays.
func (c *Cluster) FailStore(name string, err error) {
	c.t.Helper()
	d := c.Machine(name).running()
	if d == nil || d.replicaNow() == nil {
		c.t.Fatalf("%s has no store member", name)
	}
	d.replicaNow().fail(err)
}

// RefuseWrites makes the next writes of a machine's store member fail.
func (c *Cluster) RefuseWrites(name string, writes int64) { c.Machine(name).refuse.Store(writes) }

// ForceNewCluster makes a machine the only manager of its cluster.
func (c *Cluster) ForceNewCluster(name string) {
	c.t.Helper()
	ctx, cancel := c.context()
	defer cancel()
	if _, err := c.Machine(name).running().members.Init(ctx, membership.InitRequest{ForceNew: true}); err != nil {
		c.t.Fatalf("force a new cluster on %s: %v", name, err)
	}
}

// LoseDisk takes a machine's power and all that it had on its disk. When it is started again it belongs to no cluster: see Replace.
func (c *Cluster) LoseDisk(name string) {
	c.t.Helper()
	m := c.Machine(name)
	if m.Up() {
		c.PowerOff(name)
	}
	m.containers.clear()
	m.dir = c.t.TempDir()
	m.blank = true
}

// Stall stops a machine's daemon as SIGSTOP does: it neither reads nor writes, starts nothing and takes no part in the replicated log. Its timers go on
// and act when it does, until Continue.
func (c *Cluster) Stall(name string) {
	c.t.Helper()
	c.Machine(name).stall(true)
}

// Continue undoes Stall.
func (c *Cluster) Continue(name string) {
	c.t.Helper()
	c.Machine(name).stall(false)
}

// Block makes writes of one machine to another wait until Mend, as when a peer has stopped reading. What was sent before arrives, and the other
// direction stays as it is.
func (c *Cluster) Block(from, to string) {
	c.t.Helper()
	c.network.fill(c.Machine(from).Addr, c.Machine(to).Addr)
}

// Isolate breaks all links between some machines and the others.
func (c *Cluster) Isolate(names ...string) {
	c.t.Helper()
	inside := map[*Machine]bool{}
	for _, name := range names {
		inside[c.Machine(name)] = true
	}
	for _, a := range c.machines {
		for _, b := range c.machines {
			if inside[a] != inside[b] {
				c.network.setLink(a.Addr, b.Addr, true)
			}
		}
	}
}

// Break lets nothing that one machine sends arrive at another; the other direction stays as it is.
func (c *Cluster) Break(from, to string) {
	c.t.Helper()
	c.network.setLink(c.Machine(from).Addr, c.Machine(to).Addr, true)
}

// Mend makes all links whole, and lets writes go on.
func (c *Cluster) Mend() { c.network.mend() }

// HoldTables lets a machine's kernel take up no table until ReleaseTables.
func (c *Cluster) HoldTables(name string) { c.Machine(name).kernel.hold() }

// ReleaseTables undoes HoldTables.
func (c *Cluster) ReleaseTables(name string) { c.Machine(name).kernel.release() }

// RefuseNetworks lets a machine's kernel take up nothing of what tables say of networks; without any it takes up everything again.
func (c *Cluster) RefuseNetworks(name string, networks ...shoal.NetworkID) {
	c.Machine(name).kernel.refuse(networks...)
}

// Stops is every time that an agent has ended a running container.
func (c *Cluster) Stops() []Stop {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.stops
}

// stopped records that an agent ends a container.
func (c *Cluster) stopped(at *Machine, task shoal.TaskID) {
	s := Stop{Machine: at.Name, TaskID: task, At: time.Now()}
	for _, m := range c.machines {
		if m.running() != nil && m.Balances(task) {
			s.BalancedBy = append(s.BalancedBy, m.Name)
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.stops = append(c.stops, s)
}
