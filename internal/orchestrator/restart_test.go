package orchestrator

import (
	"fmt"
	"testing"
	"time"

	"github.com/shoal-dev/shoal/internal/shoal"
	"github.com/shoal-dev/shoal/internal/store"
	"github.com/shoal-dev/shoal/internal/store/storetest"
)

// stage is a view of one service with one replica on one ready node.
type stage struct {
	view store.View
	now  time.Time
	ids  int
}

func newStage(t *testing.T, policy *shoal.RestartPolicy) *stage {
	t.Helper()
	s := &stage{now: time.Unix(1000, 0).UTC()}
	s.view = storetest.Open(t, store.NewMemory()).View().With(store.Changes{Puts: []store.Object{
		&shoal.Node{ID: "n", Status: shoal.NodeStatus{State: shoal.NodeReady}},
		&shoal.Service{ID: "s", Spec: shoal.ServiceSpec{
			Name: "s", Mode: shoal.ServiceMode{Replicated: &shoal.Replicated{}}, Task: shoal.TaskSpec{Restart: policy},
		}},
	}})
	s.reconcile(t)
	return s
}

func (s *stage) reconcile(t *testing.T) store.Changes {
	t.Helper()
	o := New(Config{NewID: func() shoal.TaskID {
		s.ids++
		return shoal.TaskID(fmt.Sprintf("t%02d", s.ids))
	}})
	c, err := o.Reconcile(s.view.At(s.now), "s")
	if err != nil {
		t.Fatal(err)
	}
	s.view = s.view.With(c)
	again, err := o.Reconcile(s.view.At(s.now), "s")
	if err != nil || !again.Empty() {
		t.Fatalf("a second look changes %d objects, %v", len(again.Puts)+len(again.Deletes), err)
	}
	return c
}

func (s *stage) report(id shoal.TaskID, state shoal.TaskState) {
	next := *s.view.Task(id)
	next.NodeID = "n"
	next.Observe(shoal.TaskStatus{State: state, Timestamp: s.now})
	s.view = s.view.With(store.Changes{Puts: []store.Object{&next}})
}

func (s *stage) last() *shoal.Task { return s.view.Task(shoal.TaskID(fmt.Sprintf("t%02d", s.ids))) }

func TestRestartWaitsInReady(t *testing.T) {
	s := newStage(t, nil)
	s.report("t01", shoal.TaskFailed)
	c := s.reconcile(t)
	if got := s.last(); got.ID != "t02" || got.DesiredState != shoal.TaskReady || !c.RequeueAt.Equal(s.now.Add(5*time.Second)) {
		t.Fatalf("after a failure: %s wants %s, next look at %s", got.ID, got.DesiredState, c.RequeueAt)
	}
	if s.view.Task("t01").DesiredState != shoal.TaskShutdown {
		t.Error("the failed task is still wanted")
	}
	s.report("t02", shoal.TaskReady)
	s.now = s.now.Add(5 * time.Second)
	s.reconcile(t)
	if got := s.last(); got.ID != "t02" || got.DesiredState != shoal.TaskRunning {
		t.Fatalf("after the delay: %s wants %s", got.ID, got.DesiredState)
	}
}

func TestRestartPolicies(t *testing.T) {
	delay, two := time.Duration(0), uint64(2)
	for _, c := range []struct {
		name   string
		policy shoal.RestartPolicy
		end    shoal.TaskState
		want   int // tasks in all, after as many ends as it takes
	}{
		{"none", shoal.RestartPolicy{Condition: shoal.RestartNone, Delay: &delay}, shoal.TaskFailed, 1},
		{"success is no failure", shoal.RestartPolicy{Condition: shoal.RestartOnFailure, Delay: &delay}, shoal.TaskComplete, 1},
		{"attempts", shoal.RestartPolicy{Condition: shoal.RestartAny, Delay: &delay, MaxAttempts: &two}, shoal.TaskFailed, 3},
		{"any", shoal.RestartPolicy{Condition: shoal.RestartAny, Delay: &delay}, shoal.TaskFailed, 10},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newStage(t, &c.policy)
			for range 9 {
				if last := s.last(); !last.Status.State.Ended() {
					s.report(last.ID, c.end)
				}
				s.now = s.now.Add(2 * time.Minute) // longer than any back-off
				s.reconcile(t)
			}
			if s.ids != c.want {
				t.Errorf("%d tasks were made, want %d", s.ids, c.want)
			}
			if n := len(s.view.Tasks()); n > shoal.DefaultTaskHistoryLimit {
				t.Errorf("%d tasks are kept", n)
			}
		})
	}
}

func TestCrashLoopBacksOff(t *testing.T) {
	second, none, hour := time.Second, time.Duration(0), time.Hour
	for _, c := range []struct {
		name  string
		delay time.Duration
		end   shoal.TaskState
		ran   time.Duration
		want  []time.Duration
	}{
		{"doubles up to a minute", second, shoal.TaskFailed, second, []time.Duration{1, 2, 4, 8, 16, 32, 60, 60}},
		{"a rejected task too", second, shoal.TaskRejected, 0, []time.Duration{1, 2, 4}},
		{"not after a healthy while", second, shoal.TaskFailed, time.Minute, []time.Duration{1, 1, 1}},
		{"nor after a success", second, shoal.TaskComplete, second, []time.Duration{1, 1, 1}},
		{"nor below the policy's delay", hour, shoal.TaskFailed, second, []time.Duration{3600, 3600}},
		{"without a delay from the second crash", none, shoal.TaskFailed, second, []time.Duration{0, .1e9, .2e9, .4e9}},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newStage(t, &shoal.RestartPolicy{Condition: shoal.RestartAny, Delay: &c.delay})
			for i, want := range c.want {
				if want < 1e6 {
					want *= time.Second
				}
				if c.ran > 0 {
					s.report(s.last().ID, shoal.TaskRunning)
				}
				s.now = s.now.Add(c.ran)
				s.report(s.last().ID, c.end)
				s.reconcile(t)
				if got := s.last().NotBefore.Sub(s.now); got != want {
					t.Errorf("pause %d is %s, want %s", i+1, got, want)
				}
				s.now = s.last().NotBefore
				s.reconcile(t)
			}
		})
	}
}

func TestRemovedNodeOrphansItsTasks(t *testing.T) {
	s := newStage(t, nil)
	s.report("t01", shoal.TaskRunning)
	s.view = s.view.With(store.Changes{Deletes: []store.Object{s.view.Node("n")}})
	s.reconcile(t)
	if got := s.view.Task("t01"); got.Status.State != shoal.TaskOrphaned || got.DesiredState != shoal.TaskShutdown {
		t.Errorf("task of a removed node is %s, wants %s", got.Status.State, got.DesiredState)
	}
	if got := s.last(); got.ID != "t02" || got.DesiredState != shoal.TaskRunning || got.Slot != 1 {
		t.Errorf("replacement %+v", got)
	}
}

// A rollback to an image that works waited for a minute, because tasks of the other image had been rejected until then.
func TestATaskOfAnotherSpecDoesNotWaitForItsPredecessorsFailures(t *testing.T) {
	s := newStage(t, &shoal.RestartPolicy{Delay: new(100 * time.Millisecond)})
	for range 8 {
		s.report(s.last().ID, shoal.TaskFailed)
		if c := s.reconcile(t); c.RequeueAt.After(s.now) {
			s.now = c.RequeueAt
			s.reconcile(t)
		}
	}
	s.report(s.last().ID, shoal.TaskFailed)
	service := *s.view.Service("s")
	service.Spec.Task.Container, service.SpecVersion = &shoal.ContainerSpec{Image: "other"}, service.SpecVersion+1
	s.view = s.view.With(store.Changes{Puts: []store.Object{&service}})
	s.reconcile(t)
	if got := s.last(); got.SpecVersion != service.SpecVersion || got.DesiredState != shoal.TaskRunning {
		t.Errorf("%s of spec %d wants %s, not before %v from now", got.ID, got.SpecVersion, got.DesiredState, got.NotBefore.Sub(s.now))
	}
}

// TestATaskRejectedWhileItWaitsIsNotReplacedAtOnce: an image that is not there fails in Ready, before the pause is over. The successor is made at once,
// but its node does not try again before that.
func TestATaskRejectedWhileItWaitsIsNotReplacedAtOnce(t *testing.T) {
	for _, delay := range []time.Duration{0, time.Millisecond, 100 * time.Millisecond, 5 * time.Second} {
		t.Run(delay.String(), func(t *testing.T) {
			s := newStage(t, &shoal.RestartPolicy{Condition: shoal.RestartAny, Delay: &delay})
			tries := 0
			for end := s.now.Add(time.Minute); s.now.Before(end) && tries < 1000; {
				if task := s.last(); !task.Status.State.Ended() && task.HeldUntil.IsZero() { // as soon as it is let to
					tries++
					s.report(task.ID, shoal.TaskRejected)
				}
				if c := s.reconcile(t); s.last().HeldUntil.After(s.now) {
					s.now = c.RequeueAt
				}
			}
			if tries > 20 || tries < 4 {
				t.Errorf("%d tries in a minute", tries)
			}
			if got := s.last(); got.DesiredState != shoal.TaskReady || got.Status.State.Ended() {
				t.Errorf("the successor is %s, wants %s", got.Status.State, got.DesiredState)
			}
		})
	}
}

// TestAHeldTaskIsToldToStop: it is let go when it is not wanted any more, so that its node reports its end.
func TestAHeldTaskIsToldToStop(t *testing.T) {
	s := newStage(t, nil)
	s.report("t01", shoal.TaskRejected)
	s.reconcile(t)
	s.report("t02", shoal.TaskRejected)
	s.reconcile(t)
	if got := s.last(); got.ID != "t03" || !got.HeldUntil.Equal(s.view.Task("t02").NotBefore) || got.NotBefore.Before(got.HeldUntil) {
		t.Fatalf("the successor is held until %s, starts at %s", got.HeldUntil, got.NotBefore)
	}
	s.report("t03", shoal.TaskAssigned)
	s.view = s.view.With(store.Changes{Deletes: []store.Object{s.view.Service("s")}})
	s.reconcile(t)
	if got := s.last(); got.DesiredState != shoal.TaskRemove || !got.HeldUntil.IsZero() {
		t.Errorf("of a removed service it wants %s and is held until %s", got.DesiredState, got.HeldUntil)
	}
}
