package dispatcher

import (
	"slices"

	"github.com/shoal-dev/shoal/internal/shoal"
	"github.com/shoal-dev/shoal/internal/store"
)

// beginDrainLocked begins the drain of a task if it runs and is to stop. Tables of the view's revision and later mark its endpoints as
// draining, so balancers that have applied them open no new connections to it.
func (d *Dispatcher) beginDrainLocked(t *shoal.Task, view store.View) {
	leaves := !t.Wanted() || t.Status.Leaving
	if !leaves || t.Status.State != shoal.TaskRunning || t.NodeID == "" {
		if t.Status.State.Ended() {
			delete(d.drains, t.ID)
		}
		return
	}
	if _, ok := d.drains[t.ID]; ok {
		return
	}
	d.drains[t.ID] = drain{t.NodeID, view.Revision()}
	if !networked(t) {
		d.drains[t.ID] = drain{t.NodeID, 0}
		d.finishDrainsLocked(view)
	}
}

// finishDrainsLocked tells agents which of their tasks are drained and may be stopped: those for which every node has applied a table
// of the drain's version or a later one, was not affected, or is Down.
func (d *Dispatcher) finishDrainsLocked(view store.View) {
	if len(d.drains) == 0 {
		return
	}
	oldest := ^uint64(0)
	for _, s := range d.sessions {
		oldest = min(oldest, s.appliedRevision())
	}
	absent := d.absentLocked(view)
	for id, dr := range d.drains {
		if dr.version > oldest || slices.ContainsFunc(absent, func(n absentNode) bool { return n.mayUse(view.Task(id), dr.version) }) {
			continue
		}
		if s := d.sessions[dr.node]; s != nil && !s.announced[id] {
			s.announced[id] = true
			s.drained = append(s.drained, id)
			wake(s.wake)
		}
	}
}

// appliedRevision is the newest revision whose changes the node's kernel is known to have.
func (s *session) appliedRevision() uint64 {
	if s.applied >= s.sentVersion {
		return max(s.applied, s.unaffectedUpTo)
	}
	return s.applied
}

// absentNode is a node without a session that is not Down: its daemon is away, but its kernel goes on forwarding by the tables it has.
type absentNode struct {
	applied  uint64 // the newest revision that its kernel is known to have
	networks map[shoal.NetworkID]shoal.Network
}

func (d *Dispatcher) absentLocked(view store.View) (absent []absentNode) {
	for _, n := range view.Nodes() {
		if d.sessions[n.ID] != nil || !n.Ready() {
			continue
		}
		t := shoal.Table{NodeID: n.ID, Networks: map[shoal.NetworkID]shoal.Network{}}
		addNetworks(view, &t)
		absent = append(absent, absentNode{d.lastApplied[n.ID], t.Networks})
	}
	return absent
}

// mayUse tells whether the node may still open connections to a task that has been draining since a revision.
func (n absentNode) mayUse(task *shoal.Task, since uint64) bool {
	return n.applied < since && task != nil && slices.ContainsFunc(task.Networks, func(at shoal.TaskNetwork) bool {
		_, ok := n.networks[at.NetworkID]
		return ok
	})
}
