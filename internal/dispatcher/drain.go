package dispatcher

import (
	"slices"
	"time"

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

// finishDrainsLocked tells agents which of their tasks are drained and may be stopped: those that no node may open connections to any more.
func (d *Dispatcher) finishDrainsLocked(view store.View) {
	if len(d.drains) == 0 {
		return
	}
	senders := d.sendersLocked(view)
	for id, dr := range d.drains {
		task := view.Task(id)
		if task == nil || slices.ContainsFunc(senders, func(s sender) bool { return s.mayUse(task, dr.version) }) {
			continue
		}
		if s := d.sessions[dr.node]; s != nil && !s.announced[id] {
			s.announced[id] = true
			s.drained = append(s.drained, id)
			wake(s.wake)
		}
	}
}

// sender is a node whose containers and published ports may open connections to tasks.
type sender struct {
	kernelState
	networks map[shoal.NetworkID]shoal.Network // that it takes part in; nil if that is not known
}

// mayUse tells whether the node may still open connections to a task that has been draining since a revision: by a network that both are on.
func (s sender) mayUse(task *shoal.Task, since uint64) bool {
	return slices.ContainsFunc(task.Networks, func(at shoal.TaskNetwork) bool {
		_, member := s.networks[at.NetworkID]
		return (member || s.networks == nil) && s.revisionOf(at.NetworkID) < since
	})
}

// startGrace is for how long a node that has become Down is still waited for: its daemon may be one that starts slowly, on a busy machine or with many
// containers, and its kernel goes on forwarding meanwhile. No task waits to be replaced because of that, only to be stopped.
const startGrace = 10 * time.Second

// noteStateLocked takes note of nodes that become Down, and looks at the drains again when they are waited for no more.
func (d *Dispatcher) noteStateLocked(c store.Change) {
	old, _ := c.Old.(*shoal.Node)
	now, _ := c.New.(*shoal.Node)
	switch {
	case now == nil || now.Ready() || now.HasLeft():
		delete(d.wentDown, shoal.NodeID(c.ID))
	case old != nil && old.Ready():
		d.wentDown[now.ID] = time.Now()
		time.AfterFunc(startGrace, func() {
			d.mu.Lock()
			defer d.mu.Unlock()
			d.finishDrainsLocked(d.cfg.Store.View())
		})
	}
}

// sendersLocked is all nodes but those that are Down for good. One without a session counts too: its daemon is away, but its kernel goes on forwarding by
// the tables it has.
func (d *Dispatcher) sendersLocked(view store.View) (senders []sender) {
	for _, s := range d.sessions {
		senders = append(senders, sender{s.known(), s.sent.Networks})
	}
	for _, n := range view.Nodes() {
		if d.sessions[n.ID] != nil {
			continue
		}
		if !n.Ready() {
			if since, ok := d.wentDown[n.ID]; ok && time.Since(since) < startGrace {
				senders = append(senders, sender{d.lastApplied[n.ID], nil})
			}
			continue
		}
		t := shoal.Table{NodeID: n.ID, Networks: map[shoal.NetworkID]shoal.Network{}}
		addNetworks(view, &t)
		senders = append(senders, sender{d.lastApplied[n.ID], t.Networks})
	}
	return senders
}
