package testcluster

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/shoal-dev/shoal/internal/shoal"
	"github.com/shoal-dev/shoal/internal/store"
)

func TestInvariantsAreNoticed(t *testing.T) {
	put := func(kind store.Kind, id string, o any) store.Op {
		value, err := json.Marshal(o)
		if err != nil {
			t.Fatal(err)
		}
		return store.Op{Key: store.Prefix + string(kind) + "/" + id, Value: value}
	}
	task := func(id shoal.TaskID, desired shoal.TaskState) store.Op {
		return put(store.KindTask, string(id), &shoal.Task{ID: id, ServiceID: "web", Slot: 1, DesiredState: desired})
	}
	startFirst := put(store.KindService, "web", &shoal.Service{ID: "web", Spec: shoal.ServiceSpec{Update: &shoal.UpdateConfig{Order: shoal.StartFirst}}})
	down := put(store.KindNode, "n", &shoal.Node{ID: "n", Status: shoal.NodeStatus{State: shoal.NodeDown, Message: "heartbeat failure"}})
	for _, c := range []struct {
		name  string
		by    string
		fence uint64
		ops   []store.Op
		want  string // empty if all is well
	}{
		{"two tasks of a slot", "1", 7, []store.Op{task("a", shoal.TaskRunning), task("b", shoal.TaskRunning)}, "2 tasks are wanted in slot web.1"},
		{"a successor", "1", 7, []store.Op{task("a", shoal.TaskRunning), task("a", shoal.TaskShutdown), task("b", shoal.TaskRunning)}, ""},
		{"one that waits", "1", 7, []store.Op{task("a", shoal.TaskRunning), task("b", shoal.TaskReady)}, ""},
		{"start-first", "1", 7, []store.Op{startFirst, task("a", shoal.TaskRunning), task("b", shoal.TaskRunning)}, ""},
		{"no fence", "1", 0, []store.Op{task("a", shoal.TaskReady)}, "makes task a"},
		{"another leader", "2", 7, []store.Op{task("a", shoal.TaskReady)}, "makes task a"},
		{"a verdict of a deposed leader", "2", 0, []store.Op{down}, "declares node n down"},
	} {
		i := newInvariants()
		i.check(c.by, "1", c.fence, c.ops)
		if got := strings.Join(i.found(), "; "); (got == "") != (c.want == "") || !strings.Contains(got, c.want) {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
	}
}
