package daemon

import (
	"reflect"
	"testing"

	"github.com/shoal-dev/shoal/internal/shoal"
	"github.com/shoal-dev/shoal/internal/store"
)

func TestChangesBecomeDockersEvents(t *testing.T) {
	two, three := uint64(2), uint64(3)
	service := func(replicas *uint64, image string) *shoal.Service {
		return &shoal.Service{Spec: shoal.ServiceSpec{
			Name: "web", Mode: shoal.ServiceMode{Replicated: &shoal.Replicated{Replicas: replicas}},
			Task: shoal.TaskSpec{Container: &shoal.ContainerSpec{Image: image}},
		}}
	}
	node := func(state shoal.NodeState) *shoal.Node {
		return &shoal.Node{Status: shoal.NodeStatus{State: state}, Description: shoal.NodeDescription{Hostname: "n2"}}
	}
	for _, tc := range []struct {
		name     string
		old, now store.Object
		action   string
		want     map[string]string
	}{
		{"a new service", nil, service(&two, "a"), "create", map[string]string{"name": "web"}},
		{"scaled", service(&two, "a"), service(&three, "a"), "update", map[string]string{"name": "web", "replicas.old": "2", "replicas.new": "3"}},
		{"another image", service(&two, "a"), service(&two, "b"), "update", map[string]string{"name": "web", "image.old": "a", "image.new": "b"}},
		{"removed", service(&two, "a"), nil, "remove", map[string]string{"name": "web"}},
		{"a node goes down", node(shoal.NodeReady), node(shoal.NodeDown), "update", map[string]string{"name": "n2", "state.old": "ready", "state.new": "down"}},
		{"a node gets a label", node(shoal.NodeReady), &shoal.Node{Status: shoal.NodeStatus{State: shoal.NodeReady}, Description: shoal.NodeDescription{Hostname: "n2"},
			Spec: shoal.NodeSpec{Labels: map[string]string{"a": "b"}}}, "update", map[string]string{"name": "n2"}},
		{"a heartbeat", node(shoal.NodeReady), node(shoal.NodeReady), "", nil},
		{"a task", nil, &shoal.Task{}, "", nil},
	} {
		t.Run(tc.name, func(t *testing.T) {
			c := store.Change{ID: "x"}
			if tc.old != nil {
				c.Old = tc.old
			}
			if tc.now != nil {
				c.New = tc.now
			}
			e, ok := eventOf(c)
			if ok != (tc.want != nil) {
				t.Fatalf("told: %v", ok)
			}
			if ok && (e.Action != tc.action || !reflect.DeepEqual(e.Attributes, tc.want)) {
				t.Errorf("%s %v, want %s %v", e.Action, e.Attributes, tc.action, tc.want)
			}
		})
	}
}
