package scheduler

import (
	"time"

	"github.com/shoal-dev/shoal/internal/shoal"
)

// A service that has failed so often on a node within the window is placed elsewhere if it can be. Docker counts to five, beyond what a slot's history keeps.
const (
	maxFailures   = 3
	failureWindow = 5 * time.Minute
)

// failures is the tasks in the store that have failed, by service.
type failures map[shoal.ServiceID]map[shoal.TaskID]*shoal.Task

// set takes over a task as it is now, which was another before, either nil for none.
func (f failures) set(id shoal.TaskID, was, now *shoal.Task) {
	if failed(was) {
		delete(f[was.ServiceID], id)
		if len(f[was.ServiceID]) == 0 {
			delete(f, was.ServiceID)
		}
	}
	if failed(now) {
		if f[now.ServiceID] == nil {
			f[now.ServiceID] = map[shoal.TaskID]*shoal.Task{}
		}
		f[now.ServiceID][id] = now
	}
}

func failed(t *shoal.Task) bool {
	return t != nil && t.NodeID != "" && t.ServiceID != "" && (t.Status.State == shoal.TaskFailed || t.Status.State == shoal.TaskRejected)
}

// nodes is where the service, as a version of its spec has it, fails again and again.
func (f failures) nodes(req *requirements, now time.Time) map[shoal.NodeID]bool {
	var failing map[shoal.NodeID]bool
	counts := map[shoal.NodeID]int{}
	for _, t := range f[req.service] {
		if t.SpecVersion != req.specVersion || now.Sub(t.Status.Timestamp) >= failureWindow {
			continue
		}
		if counts[t.NodeID]++; counts[t.NodeID] == maxFailures {
			if failing == nil {
				failing = map[shoal.NodeID]bool{}
			}
			failing[t.NodeID] = true
		}
	}
	return failing
}
