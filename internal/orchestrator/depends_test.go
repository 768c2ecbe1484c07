package orchestrator

import (
	"testing"

	"github.com/shoal-dev/shoal/internal/shoal"
	"github.com/shoal-dev/shoal/internal/store"
	"github.com/shoal-dev/shoal/internal/store/storetest"
)

func service(id shoal.ServiceID, stack, dependsOn string) *shoal.Service {
	return &shoal.Service{ID: id, Spec: shoal.ServiceSpec{
		Name: string(id), Mode: shoal.ServiceMode{Replicated: &shoal.Replicated{}},
		Labels: map[string]string{shoal.LabelStack: stack, shoal.LabelDependsOn: dependsOn},
	}}
}

func taskOf(service shoal.ServiceID, desired, state shoal.TaskState) *shoal.Task {
	return &shoal.Task{ID: shoal.TaskID(service + "-task"), ServiceID: service, Slot: 1, NodeID: "n", DesiredState: desired, Status: shoal.TaskStatus{State: state}}
}

func TestDependsOn(t *testing.T) {
	iteration := uint64(3)
	migration := service("db", "", "")
	migration.Spec.Mode = shoal.ServiceMode{ReplicatedJob: &shoal.ReplicatedJob{}}
	migration.JobStatus = &shoal.JobStatus{Iteration: iteration}
	migrated := taskOf("db", shoal.TaskComplete, shoal.TaskComplete)
	migrated.JobIteration = &iteration
	none := service("db", "", "")
	none.Spec.Mode.Replicated.Replicas = new(uint64)
	for _, c := range []struct {
		name    string
		web     *shoal.Service
		objects []store.Object
		want    shoal.TaskState
	}{
		{"nothing", service("web", "", ""), nil, shoal.TaskRunning},
		{"one that is missing", service("web", "", "db"), nil, shoal.TaskRunning},
		{"one without tasks", service("web", "", "db"), []store.Object{service("db", "", "")}, shoal.TaskReady},
		{"one that starts", service("web", "", "cache, db"), []store.Object{service("db", "", ""), taskOf("db", shoal.TaskRunning, shoal.TaskStarting)}, shoal.TaskReady},
		{"one that runs", service("web", "", "db"), []store.Object{service("db", "", ""), taskOf("db", shoal.TaskRunning, shoal.TaskRunning)}, shoal.TaskRunning},
		{"one that stops", service("web", "", "db"), []store.Object{service("db", "", ""), taskOf("db", shoal.TaskShutdown, shoal.TaskRunning)}, shoal.TaskReady},
		{"one that wants no tasks", service("web", "", "db"), []store.Object{none}, shoal.TaskRunning},
		{"itself", service("web", "", "web"), nil, shoal.TaskRunning},
		{"a circle", service("web", "", "a"), []store.Object{service("a", "", "b"), service("b", "", "web")}, shoal.TaskRunning},
		{"one of its stack", service("web", "shop", "db"), []store.Object{service("shop_db", "shop", "")}, shoal.TaskReady},
		{"a job under way", service("web", "", "db"), []store.Object{migration}, shoal.TaskReady},
		{"a job that is complete", service("web", "", "db"), []store.Object{migration, migrated}, shoal.TaskRunning},
	} {
		t.Run(c.name, func(t *testing.T) {
			v := storetest.Open(t, store.NewMemory()).View().With(store.Changes{Puts: append(c.objects, c.web)})
			changes, err := New(Config{}).Reconcile(v, "web")
			if err != nil || len(changes.Puts) != 1 || changes.Puts[0].(*shoal.Task).DesiredState != c.want {
				t.Errorf("%+v %v, want a task that wants %s", changes.Puts, err, c.want)
			}
		})
	}
}

// TestDependentsAreToldAndLetGo has the service that was waited for come to run, and stop: what runs is left alone.
func TestDependentsAreToldAndLetGo(t *testing.T) {
	o := New(Config{})
	before := storetest.Open(t, store.NewMemory()).View().With(store.Changes{Puts: []store.Object{
		&shoal.Node{ID: "n", Status: shoal.NodeStatus{State: shoal.NodeReady}},
		service("db", "", ""), service("web", "", "db"), taskOf("db", shoal.TaskRunning, shoal.TaskStarting), taskOf("web", shoal.TaskReady, shoal.TaskReady),
	}})
	running := taskOf("db", shoal.TaskRunning, shoal.TaskRunning)
	v := before.With(store.Changes{Puts: []store.Object{running}})
	keys := o.Concerned(v, store.Change{Kind: store.KindTask, ID: string(running.ID), Old: before.Task(running.ID), New: running})
	if len(keys) != 2 || keys[1] != "web" {
		t.Errorf("%v are told", keys)
	}
	changes, _ := o.Reconcile(v, "web")
	if len(changes.Puts) != 1 || changes.Puts[0].(*shoal.Task).DesiredState != shoal.TaskRunning {
		t.Errorf("the waiting task is not let go: %+v", changes.Puts)
	}
	v = v.With(changes).With(store.Changes{Puts: []store.Object{taskOf("web", shoal.TaskRunning, shoal.TaskRunning)}, Deletes: []store.Object{running}})
	if changes, _ := o.Reconcile(v, "web"); !changes.Empty() {
		t.Errorf("what runs is touched: %+v", changes.Puts)
	}
}
