package testcluster

import (
	"encoding/json"
	"fmt"
	"strings"
	"sync"

	"github.com/shoal-dev/shoal/internal/shoal"
	"github.com/shoal-dev/shoal/internal/store"
)

// invariants checks every transaction of the replicated log, whoever asks for it:
//
//   - tasks of services are made, deleted, placed and told to stop, and nodes are declared Down, by the leader of the newest epoch alone;
//   - in no slot are two tasks wanted running, save while the second starts first.
type invariants struct {
	mu     sync.Mutex // guards the rest
	tasks  map[string]taskFacts
	nodes  map[string]shoal.NodeState
	orders map[shoal.ServiceID]bool // services of which two tasks may be wanted in a slot
	wanted map[string]int           // by slot
	broken []string
}

// taskFacts is what is compared of a task.
type taskFacts struct {
	ServiceID    shoal.ServiceID
	Slot         uint64
	NodeID       shoal.NodeID
	DesiredState shoal.TaskState
	Status       struct{ State shoal.TaskState }
}

func newInvariants() *invariants {
	return &invariants{
		tasks: map[string]taskFacts{}, nodes: map[string]shoal.NodeState{}, orders: map[shoal.ServiceID]bool{}, wanted: map[string]int{},
	}
}

func (t taskFacts) slot() string {
	if t.Slot != 0 {
		return fmt.Sprintf("%s.%d", t.ServiceID, t.Slot)
	}
	return fmt.Sprintf("%s at %s", t.ServiceID, t.NodeID)
}

func (t taskFacts) up() bool {
	return t.ServiceID != "" && (t.DesiredState == shoal.TaskRunning || t.DesiredState == shoal.TaskComplete) && !t.Status.State.Ended()
}

// check looks at a transaction that a member asks for while another, or the same, leads.
func (i *invariants) check(by, leader string, fence uint64, ops []store.Op) {
	i.mu.Lock()
	defer i.mu.Unlock()
	var slots []string
	for _, op := range ops {
		kind, id, _ := strings.Cut(strings.TrimPrefix(op.Key, store.Prefix), "/")
		decision := ""
		switch store.Kind(kind) {
		case store.KindTask:
			var slot string
			slot, decision = i.taskLocked(id, op.Value)
			slots = append(slots, slot)
		case store.KindNode:
			decision = i.nodeLocked(id, op.Value)
		case store.KindService:
			i.serviceLocked(op.Value)
		default:
		}
		if decision != "" && (fence == 0 || by != leader) {
			i.breakLocked("member %s, fenced by %d, %s while %s leads", by, fence, decision, leader)
		}
	}
	for _, slot := range slots {
		service, _, _ := strings.Cut(strings.ReplaceAll(slot, " at ", "."), ".")
		if most := 1 + oneIf(i.orders[shoal.ServiceID(service)]); i.wanted[slot] > most {
			i.breakLocked("%d tasks are wanted in slot %s", i.wanted[slot], slot)
		}
	}
}

func oneIf(b bool) int {
	if b {
		return 1
	}
	return 0
}

func (i *invariants) breakLocked(format string, args ...any) {
	const most = 10
	if len(i.broken) < most {
		i.broken = append(i.broken, fmt.Sprintf(format, args...))
	}
}

// taskLocked counts a task as it will be, and says what of the leader's decisions has changed.
func (i *invariants) taskLocked(id string, value []byte) (slot, decision string) {
	was, known := i.tasks[id]
	if known && was.up() {
		i.wanted[was.slot()]--
	}
	if value == nil {
		delete(i.tasks, id)
		if was.ServiceID == "" {
			return was.slot(), ""
		}
		return was.slot(), "deletes task " + id
	}
	var is taskFacts
	if err := json.Unmarshal(value, &is); err != nil {
		i.breakLocked("task %s cannot be read: %v", id, err)
	}
	i.tasks[id] = is
	if is.up() {
		i.wanted[is.slot()]++
	}
	switch {
	case is.ServiceID == "": // a plain container's endpoint is the dispatcher's
	case !known:
		decision = "makes task " + id
	case was.NodeID != is.NodeID:
		decision = "places task " + id
	case was.DesiredState != is.DesiredState:
		decision = "tells task " + id + " what to do"
	}
	return is.slot(), decision
}

func (i *invariants) nodeLocked(id string, value []byte) (decision string) {
	var is struct {
		Status struct {
			State   shoal.NodeState
			Message string
		}
	}
	if value == nil {
		delete(i.nodes, id)
		return ""
	}
	if err := json.Unmarshal(value, &is); err != nil {
		i.breakLocked("node %s cannot be read: %v", id, err)
	}
	if was := i.nodes[id]; was != is.Status.State && is.Status.State == shoal.NodeDown && is.Status.Message == "heartbeat failure" {
		decision = "declares node " + id + " down"
	}
	i.nodes[id] = is.Status.State
	return decision
}

// serviceLocked remembers which services may have two tasks in a slot. One that had the order start-first once may have them until they have gone.
func (i *invariants) serviceLocked(value []byte) {
	var s shoal.Service
	if value == nil || json.Unmarshal(value, &s) != nil {
		return
	}
	if u := s.Spec.Update; u != nil && u.Order == shoal.StartFirst || s.Spec.Labels[shoal.LabelDrainMinAvailable] != "" || s.Spec.Labels[shoal.LabelRebalance] != "" {
		i.orders[s.ID] = true
	}
}

// found is the violations, the first ones of many.
func (i *invariants) found() []string {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.broken
}
