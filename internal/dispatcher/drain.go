package dispatcher

import "github.com/shoal-dev/shoal/internal/shoal"

// watchDrainLocked begins the drain of a running task that is to stop: at this revision every table marks its endpoints as draining.
func (d *Dispatcher) watchDrainLocked(t *shoal.Task, rev uint64) {
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
		d.checkDrainsLocked()
	}
}

// checkDrainsLocked tells agents of tasks that no balancer uses any more: every node with a session has applied a table that
// is new enough, or needed none. A node without a session is not waited for: it may be gone for good.
func (d *Dispatcher) checkDrainsLocked() {
	if len(d.drains) == 0 {
		return
	}
	oldest := ^uint64(0)
	for _, s := range d.sessions {
		oldest = min(oldest, s.upToDate())
	}
	for id, dr := range d.drains {
		if dr.version > oldest {
			continue
		}
		if s := d.sessions[dr.node]; s != nil && !s.told[id] {
			s.told[id] = true
			s.drained = append(s.drained, id)
			wake(s.wake)
		}
	}
}

// upToDate is the revision that the node's kernel is known to reflect.
func (s *session) upToDate() uint64 {
	if s.applied >= s.sentVersion {
		return max(s.applied, s.settled)
	}
	return s.applied
}
