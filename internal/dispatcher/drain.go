package dispatcher

import "github.com/shoal-dev/shoal/internal/shoal"

// beginDrainLocked begins the drain of a task if it runs and is to stop. Tables of this revision and later mark its endpoints as
// draining, so balancers that have applied them open no new connections to it.
func (d *Dispatcher) beginDrainLocked(t *shoal.Task, rev uint64) {
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
	d.drains[t.ID] = drain{t.NodeID, rev}
	if !networked(t) {
		d.drains[t.ID] = drain{t.NodeID, 0}
		d.finishDrainsLocked()
	}
}

// finishDrainsLocked tells agents which of their tasks are drained and may be stopped: those for which every node with a session
// has applied a table of the drain's version or a later one, or was not affected. Nodes without a session are not waited for,
// because they may never come back.
func (d *Dispatcher) finishDrainsLocked() {
	if len(d.drains) == 0 {
		return
	}
	oldest := ^uint64(0)
	for _, s := range d.sessions {
		oldest = min(oldest, s.appliedRevision())
	}
	for id, dr := range d.drains {
		if dr.version > oldest {
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
