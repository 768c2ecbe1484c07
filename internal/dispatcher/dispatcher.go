// Package dispatcher is the managers' end of the agents' sessions. It reads tasks, networks, services and nodes and streams to
// each node what concerns it; it writes what agents report: task statuses, node descriptions, and the attachments of plain containers.
package dispatcher

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"reflect"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/shoal-dev/shoal/internal/fault"
	"github.com/shoal-dev/shoal/internal/rpc"
	"github.com/shoal-dev/shoal/internal/shoal"
	"github.com/shoal-dev/shoal/internal/store"
)

// Config is what a dispatcher works with; every field is required.
type Config struct {
	Log   *slog.Logger
	Store *store.Store
	// NodeMonitor is told of sessions that begin and end.
	NodeMonitor NodeMonitor
	// Leadership tells whether this manager leads: only the leader holds sessions.
	Leadership Leadership
	// Managers lists where the node protocol is served, the leader first.
	Managers func(store.View) []string
	// Trust is what nodes are to trust, and the public key that their certificates are to be signed with.
	Trust func(store.View) (roots, issuer []byte)
}

// Leadership tells whether this manager leads; the channel is closed when that may have changed. LeaderID is the store member
// that leads as far as this one knows.
type Leadership interface {
	Leader() (epoch uint64, leads bool, leadershipChanged <-chan struct{})
	LeaderID() string
}

// NodeMonitor judges nodes by their sessions.
type NodeMonitor interface {
	// Up says that a node has a session; addr is where it calls from.
	Up(ctx context.Context, node shoal.NodeID, addr netip.Addr) error
	// Lost says that a session has ended and when the node was last heard of.
	Lost(node shoal.NodeID, lastHeard time.Time)
}

// Dispatcher serves sessions. It is current while Run runs.
type Dispatcher struct {
	cfg Config

	mu       sync.Mutex // guards all below
	sessions map[shoal.NodeID]*session
	statuses map[shoal.TaskID]report // reported by agents, not yet written to the store
	drains   map[shoal.TaskID]drain  // running tasks that are to stop once no balancer uses them
	// lastApplied is, of nodes whose session has ended, how far their kernels are known to be.
	lastApplied map[shoal.NodeID]kernelState
	wentDown    map[shoal.NodeID]time.Time // nodes that are Down: since when, if this dispatcher has seen it
	logs        map[string]*subscription
	tunnels     map[string]*pendingTunnel

	wakeStatusWriter chan struct{} // capacity 1
}

// report is a task's status and the node that reported it.
type report struct {
	node   shoal.NodeID
	status shoal.TaskStatus
}

// drain is a running task that is to stop. In every table from this version on its endpoints are marked as draining.
type drain struct {
	node    shoal.NodeID
	version uint64
}

// New makes a dispatcher.
func New(cfg Config) *Dispatcher {
	return &Dispatcher{
		cfg:              cfg,
		sessions:         map[shoal.NodeID]*session{},
		statuses:         map[shoal.TaskID]report{},
		drains:           map[shoal.TaskID]drain{},
		lastApplied:      map[shoal.NodeID]kernelState{},
		wentDown:         map[shoal.NodeID]time.Time{},
		logs:             map[string]*subscription{},
		tunnels:          map[string]*pendingTunnel{},
		wakeStatusWriter: make(chan struct{}, 1),
	}
}

// Run follows the store and writes what agents report, until ctx ends.
func (d *Dispatcher) Run(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return d.follow(ctx) })
	group.Go(func() error { return d.writeStatuses(ctx) })
	return group.Wait()
}

// follow marks in every session what a change of the store has made out of date for its node, and wakes it.
func (d *Dispatcher) follow(ctx context.Context) error {
	view, sub := d.cfg.Store.Subscribe()
	defer sub.Close()
	d.beginDrains(view)
	for {
		batches, err := sub.Next(ctx)
		if err != nil {
			return err
		}
		d.markChanges(batches)
	}
}

func (d *Dispatcher) beginDrains(view store.View) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, t := range view.Tasks() {
		d.beginDrainLocked(t, view)
	}
}

func (d *Dispatcher) markChanges(batches []store.Batch) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, b := range batches {
		for _, c := range b.Changes {
			d.markChangeLocked(c, b.View)
		}
	}
	for _, s := range d.sessions {
		wake(s.wake)
	}
}

// markChangeLocked marks in the sessions what one change has made out of date.
func (d *Dispatcher) markChangeLocked(c store.Change, view store.View) {
	switch c.Kind {
	case store.KindTask:
		old, _ := c.Old.(*shoal.Task)
		now, _ := c.New.(*shoal.Task)
		for _, t := range []*shoal.Task{old, now} {
			if t == nil {
				continue
			}
			if s := d.sessions[t.NodeID]; s != nil {
				s.dirtyTasks[t.ID] = true
			}
		}
		if now == nil {
			delete(d.drains, shoal.TaskID(c.ID))
		} else {
			d.beginDrainLocked(now, view)
		}
		if networked(old) || networked(now) {
			d.markTaskDirtyLocked(shoal.TaskID(c.ID), old, now)
		}
	case store.KindService:
		for _, s := range d.sessions {
			s.dirty.services[shoal.ServiceID(c.ID)] = true
		}
	case store.KindNetwork:
		d.markAllDirtyLocked()
	case store.KindNode, store.KindCluster:
		if c.New == nil {
			delete(d.lastApplied, shoal.NodeID(c.ID))
		}
		if c.Kind == store.KindNode {
			d.noteStateLocked(c)
		}
		d.finishDrainsLocked(view) // a node may be Down now
		d.markAllDirtyLocked()
		for _, s := range d.sessions {
			s.welcomeDirty = true
		}
	case store.KindSecret, store.KindConfig:
		// They reach a node with the tasks that use them.
	}
}

func networked(t *shoal.Task) bool { return t != nil && len(t.Networks) > 0 }

// Session serves one agent.
func (d *Dispatcher) Session(stream rpc.SessionServer) error {
	ctx := stream.Context()
	caller := rpc.CallerOf(ctx)
	first, err := stream.Recv()
	if err != nil {
		return err
	}
	if first.Hello == nil {
		return shoal.InvalidArgument("a session begins with hello")
	}
	_, leads, leadershipChanged := d.cfg.Leadership.Leader()
	if !leads {
		return stream.Send(&rpc.ManagerMessage{Redirect: &rpc.Redirect{Leader: d.leaderAddr()}})
	}
	if d.cfg.Store.View().Node(caller.NodeID) == nil {
		return shoal.NotFound("node %s is not part of this cluster", caller.NodeID)
	}
	s := newSession(d, caller.NodeID, stream, leadershipChanged)
	d.add(s)
	defer d.remove(s)
	// The agent is answered while the store is written: on a slow disk it would give up otherwise, and try again, for ever.
	ctx, cancel := context.WithCancel(ctx)
	introduced := make(chan error, 1)
	var introducing sync.WaitGroup
	introducing.Go(func() {
		introduced <- fault.Contain(d.cfg.Log, "introduction of a node", func() error { return d.introduce(ctx, caller, first.Hello) })
	})
	defer introducing.Wait() // the node monitor must not hear of the session after it has heard of its end
	defer cancel()
	err = s.run(ctx, introduced)
	if stream.Context().Err() == nil {
		d.cfg.Log.Info("session of a node has ended", "node", caller.NodeID, "addr", caller.Addr, "why", err)
	}
	return err
}

// introduce records what an agent says of its node, and that the node has a session.
func (d *Dispatcher) introduce(ctx context.Context, caller rpc.Caller, hello *rpc.Hello) error {
	if err := d.describe(ctx, caller, hello); err != nil {
		return fmt.Errorf("record node %s: %w", caller.NodeID, err)
	}
	if err := d.cfg.NodeMonitor.Up(ctx, caller.NodeID, caller.Addr); err != nil {
		return fmt.Errorf("record that node %s is ready: %w", caller.NodeID, err)
	}
	return nil
}

// leaderAddr is where the leader serves the node protocol ("host:port"); empty if that is not known.
func (d *Dispatcher) leaderAddr() string {
	id := d.cfg.Leadership.LeaderID()
	for _, n := range d.cfg.Store.View().Nodes() {
		if n.Manager != nil && n.Manager.MemberID == id {
			return n.Manager.Addr
		}
	}
	return ""
}

// describe records what an agent says of its node.
func (d *Dispatcher) describe(ctx context.Context, caller rpc.Caller, hello *rpc.Hello) error {
	return d.cfg.Store.Update(ctx, func(view store.View) (store.Changes, error) {
		var changes store.Changes
		node := view.Node(caller.NodeID)
		if node == nil {
			return changes, shoal.NotFound("node %s is not part of this cluster", caller.NodeID)
		}
		n := *node
		n.Description, n.ProbePort, n.DataAddr = hello.Description, hello.ProbePort, hello.DataAddr
		if !n.DataAddr.IsValid() {
			n.DataAddr = caller.Addr
		}
		if !reflect.DeepEqual(&n, node) {
			changes.Put(&n)
		}
		return changes, nil
	})
}

func (d *Dispatcher) add(s *session) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if old := d.sessions[s.node]; old != nil {
		old.replace()
	}
	d.sessions[s.node] = s
	d.finishDrainsLocked(d.cfg.Store.View())
}

func (d *Dispatcher) remove(s *session) {
	if current, lastHeard := d.forget(s); current {
		d.cfg.NodeMonitor.Lost(s.node, lastHeard)
	}
}

// forget tells whether the session is its node's present one, takes it out then, and tells when its node was last heard of.
func (d *Dispatcher) forget(s *session) (current bool, lastHeard time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	current = d.sessions[s.node] == s
	if current {
		delete(d.sessions, s.node)
		if known := s.known(); known.revision > d.lastApplied[s.node].revision {
			d.lastApplied[s.node] = known
		}
	}
	d.finishDrainsLocked(d.cfg.Store.View())
	if current {
		for _, sub := range d.logs {
			sub.nodeLost(s.node)
		}
	}
	return current, s.lastHeard
}

// writeStatuses writes the reported statuses to the store. Reports that arrive while a commit is under way are collected and
// written by the next one, whatever their number.
func (d *Dispatcher) writeStatuses(ctx context.Context) error {
	var failures store.Failures
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-d.wakeStatusWriter:
		}
		d.mu.Lock()
		reports := d.statuses
		d.statuses = map[shoal.TaskID]report{}
		d.mu.Unlock()
		epoch, leads, _ := d.cfg.Leadership.Leader()
		if !leads {
			continue // the agents tell the next leader
		}
		err := d.cfg.Store.Update(ctx, func(view store.View) (store.Changes, error) { return statusChanges(view, reports, epoch), nil })
		if err != nil {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			if errors.Is(err, store.ErrFenced) {
				continue // likewise
			}
			if failures.Failed(err, time.Now()) {
				d.cfg.Log.Error("statuses of tasks cannot be written to the store; it is tried again every second, and until then docker service ps shows old ones", "err", err)
			}
			d.requeue(reports)
			time.AfterFunc(time.Second, func() { wake(d.wakeStatusWriter) })
			continue
		}
		if failures.Succeeded() {
			d.cfg.Log.Info("statuses of tasks are written to the store again")
		}
	}
}

// requeue keeps reports that could not be written for the next try, unless there are newer ones of the same task.
func (d *Dispatcher) requeue(reports map[shoal.TaskID]report) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for id, r := range reports {
		if _, newer := d.statuses[id]; !newer {
			d.statuses[id] = r
		}
	}
}

// statusChanges is what the reports change in the store. A report of a node that the task is not assigned to is ignored.
// Invariant: a task's observed state never goes back.
func statusChanges(view store.View, reports map[shoal.TaskID]report, epoch uint64) store.Changes {
	changes := store.Changes{Fence: epoch}
	for id, r := range reports {
		task := view.Task(id)
		if task == nil || task.NodeID != r.node || r.status.State < task.Status.State ||
			r.status.State == task.Status.State && sameStatus(r.status, task.Status) {
			continue
		}
		t := *task
		t.Observe(r.status)
		changes.Put(&t)
	}
	return changes
}

func sameStatus(a, b shoal.TaskStatus) bool {
	return a.Timestamp.Equal(b.Timestamp) && a.Leaving == b.Leaving && a.Unready == b.Unready && a.Err == b.Err
}

func wake(ch chan struct{}) {
	select {
	case ch <- struct{}{}:
	default:
	}
}

// errDeposed ends the sessions of a manager that leads no more.
var errDeposed = errors.New("another manager leads")

// errReplaced ends a session whose node has opened another.
var errReplaced = errors.New("the node has opened another session")

func errSilent(node shoal.NodeID, period time.Duration) error {
	return fmt.Errorf("node %s has been silent for %v", node, period)
}
