package orchestrator

import (
	"fmt"
	"testing"
	"time"

	"github.com/shoal-dev/shoal/internal/shoal"
	"github.com/shoal-dev/shoal/internal/store"
)

// rolling is a stage on which a service of ten tasks gets a new image.
func rolling(t *testing.T, cfg shoal.UpdateConfig) *stage {
	t.Helper()
	s := newStage(t, nil)
	ten := uint64(10)
	s.edit(func(svc *shoal.Service) {
		svc.Spec.Mode.Replicated.Replicas = &ten
		svc.Spec.Update, svc.Spec.Rollback = &cfg, &cfg
		svc.Spec.Task.Container = &shoal.ContainerSpec{Image: "old"}
	})
	s.reconcile(t)
	s.run(t, "")
	s.edit(func(svc *shoal.Service) {
		before := svc.Spec
		svc.PreviousSpec, svc.UpdateStatus = &before, nil
		svc.Spec.Task.Container = &shoal.ContainerSpec{Image: "new"}
	})
	s.reconcile(t)
	return s
}

func (s *stage) edit(change func(*shoal.Service)) {
	next := *s.view.Service("s")
	change(&next)
	next.SpecVersion++
	s.view = s.view.With(store.Changes{Puts: []store.Object{&next}})
}

// run does what the tasks are told for a minute, in which those of the image given fail at once.
func (s *stage) run(t *testing.T, bad string) {
	t.Helper()
	for range 600 {
		for _, task := range s.view.Tasks() {
			switch {
			case task.Status.State.Ended():
			case task.DesiredState >= shoal.TaskShutdown:
				s.report(task.ID, shoal.TaskShutdown)
			case task.DesiredState != shoal.TaskRunning:
			case task.Spec.Container != nil && task.Spec.Container.Image == bad:
				s.report(task.ID, shoal.TaskFailed)
			case task.Status.State != shoal.TaskRunning:
				s.report(task.ID, shoal.TaskRunning)
			}
		}
		s.reconcile(t)
		s.now = s.now.Add(100 * time.Millisecond)
	}
}

func (s *stage) images(state shoal.TaskState) string {
	count := map[string]int{}
	for _, t := range s.view.Tasks() {
		if t.DesiredState == shoal.TaskRunning && t.Status.State == state {
			count[t.Spec.Container.Image]++
		}
	}
	return fmt.Sprintf("%d old, %d new", count["old"], count["new"])
}

func TestUpdateEnds(t *testing.T) {
	for _, c := range []struct {
		name    string
		cfg     shoal.UpdateConfig
		bad     string
		state   shoal.UpdateState
		message string // "%s" is the task that failed
		runs    string
	}{
		{"completes", shoal.UpdateConfig{Parallelism: 2, Delay: time.Second}, "", shoal.UpdateCompleted, "update completed", "0 old, 10 new"},
		{"all at once", shoal.UpdateConfig{}, "", shoal.UpdateCompleted, "update completed", "0 old, 10 new"},
		{"pauses at the first failure", shoal.UpdateConfig{Parallelism: 1}, "new", shoal.UpdatePaused,
			"update paused due to failure or early termination of task %s", "9 old, 0 new"},
		{"pauses above the ratio", shoal.UpdateConfig{Parallelism: 2, MaxFailureRatio: .4}, "new", shoal.UpdatePaused,
			"update paused due to failure or early termination of task %s", "4 old, 0 new"},
		{"start-first keeps what runs", shoal.UpdateConfig{Parallelism: 2, Order: shoal.StartFirst}, "new", shoal.UpdatePaused,
			"update paused due to failure or early termination of task %s", "10 old, 0 new"},
		{"goes on", shoal.UpdateConfig{Parallelism: 3, FailureAction: shoal.ContinueOnFailure}, "new", shoal.UpdateCompleted, "update completed", "0 old, 0 new"},
		{"rolls back", shoal.UpdateConfig{Parallelism: 1, FailureAction: shoal.RollbackOnFailure}, "new", shoal.UpdateRollbackCompleted,
			"rollback completed", "10 old, 0 new"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := rolling(t, c.cfg)
			s.run(t, c.bad)
			got := s.view.Service("s").UpdateStatus
			if got.State != c.state || !s.says(got.Message, c.message) {
				t.Errorf("update is %s: %q", got.State, got.Message)
			}
			if runs := s.images(shoal.TaskRunning); runs != c.runs {
				t.Errorf("%s run, want %s", runs, c.runs)
			}
		})
	}
}

// says compares a message with one in which any task but the first ten may be named.
func (s *stage) says(got, want string) bool {
	for id := 11; id <= s.ids; id++ {
		if got == want || got == fmt.Sprintf(want, fmt.Sprintf("t%02d", id)) {
			return true
		}
	}
	return false
}

func TestRollbackPauses(t *testing.T) {
	for action, want := range map[shoal.FailureAction]string{
		shoal.PauseOnFailure:    "update paused due to failure or early termination of task %s",
		shoal.RollbackOnFailure: "rollback paused due to failure or early termination of task %s",
	} {
		s := rolling(t, shoal.UpdateConfig{Parallelism: 1, FailureAction: action})
		s.run(t, "")
		s.edit(func(svc *shoal.Service) {
			svc.Spec, svc.PreviousSpec = *svc.PreviousSpec, nil
			svc.UpdateStatus = &shoal.UpdateStatus{State: shoal.UpdateRollbackStarted, StartedAt: &s.now, Message: "manually requested rollback"}
		})
		s.run(t, "old")
		if got := s.view.Service("s").UpdateStatus; got.State != shoal.UpdateRollbackPaused || !s.says(got.Message, want) {
			t.Errorf("%s: rollback is %s: %q", action, got.State, got.Message)
		}
	}
}

// TestFailureCountsWithinMonitor has the first new task fail after it has run for a while.
func TestFailureCountsWithinMonitor(t *testing.T) {
	for ran, want := range map[time.Duration]shoal.UpdateState{
		4 * time.Second: shoal.UpdatePaused, 6 * time.Second: shoal.UpdateUpdating,
	} {
		s := rolling(t, shoal.UpdateConfig{Parallelism: 1, Delay: 20 * time.Second})
		first := s.last()
		for _, task := range s.view.Tasks() {
			if task.DesiredState == shoal.TaskShutdown {
				s.report(task.ID, shoal.TaskShutdown)
			}
		}
		s.reconcile(t)
		s.report(first.ID, shoal.TaskRunning)
		s.reconcile(t)
		s.now = s.now.Add(ran)
		s.report(first.ID, shoal.TaskFailed)
		s.reconcile(t)
		if got := s.view.Service("s").UpdateStatus; got.State != want {
			t.Errorf("after %s the update is %s", ran, got.State)
		}
	}
}

func TestStartFirstGivesWayToHostPorts(t *testing.T) {
	s := newStage(t, nil)
	port := shoal.Port{Protocol: shoal.TCP, Target: 80, Published: 8080, Mode: shoal.PublishHost}
	s.edit(func(svc *shoal.Service) {
		svc.Spec.Endpoint = &shoal.EndpointSpec{Ports: []shoal.Port{port}}
		svc.Spec.Update = &shoal.UpdateConfig{Order: shoal.StartFirst}
		svc.Spec.Task.Container = &shoal.ContainerSpec{Image: "old"}
	})
	s.reconcile(t)
	s.run(t, "")
	holder := *s.last()
	holder.Ports = []shoal.Port{port}
	s.view = s.view.With(store.Changes{Puts: []store.Object{&holder}})
	s.edit(func(svc *shoal.Service) { svc.Spec.Task.Container = &shoal.ContainerSpec{Image: "new"} })
	s.reconcile(t)
	if got := s.last(); got.DesiredState != shoal.TaskReady || s.view.Task(holder.ID).DesiredState != shoal.TaskShutdown ||
		got.Status.Message != "created; stop-first for this task: host-mode port 8080/tcp is in use on every node that could run it" {
		t.Errorf("new task wants %s: %q", got.DesiredState, got.Status.Message)
	}
}

// An update that interrupts another one, start-first, takes the slots in turn. What the other has left in slots whose turn has not come must not hold the
// room that the replacements wait for: of an old task and its replacement, the one that runs last stays.
func TestWhatAnInterruptedUpdateLeftTakesNoRoomFromTheNext(t *testing.T) {
	for _, c := range []struct {
		name  string
		state shoal.TaskState // of the replacements, when the next update comes
		stays string
	}{
		{"replacements that run", shoal.TaskRunning, "new"},
		{"replacements that wait for room", shoal.TaskPending, "old"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := rolling(t, shoal.UpdateConfig{Order: shoal.StartFirst})
			for _, task := range s.view.Tasks() {
				if image := task.Spec.Container; image != nil && image.Image == "new" {
					s.report(task.ID, c.state)
				}
			}
			s.edit(func(svc *shoal.Service) {
				svc.Spec.Update = &shoal.UpdateConfig{Order: shoal.StartFirst, Parallelism: 1}
				svc.Spec.Task.Container, svc.UpdateStatus = &shoal.ContainerSpec{Image: "newest"}, nil
			})
			s.reconcile(t)
			left := map[uint64]string{}
			for _, task := range s.view.Tasks() {
				if task.Spec.Container == nil {
					continue
				}
				if image := task.Spec.Container.Image; image != "newest" && task.DesiredState == shoal.TaskRunning {
					left[task.Slot] += image
				}
			}
			if len(left) != 10 {
				t.Errorf("%d slots have a task of an earlier spec, want 10", len(left))
			}
			for slot, images := range left {
				if images != c.stays {
					t.Errorf("slot %d has %q, want %q", slot, images, c.stays)
				}
			}
		})
	}
}
