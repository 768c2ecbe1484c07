package testcluster_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/shoal-dev/shoal/internal/shoal"
	"github.com/shoal-dev/shoal/internal/store"
	"github.com/shoal-dev/shoal/internal/testcluster"
)

func TestReplicasSpread(t *testing.T) {
	testcluster.Test(t, testcluster.Config{Managers: 1, Workers: 2}, func(_ *testing.T, c *testcluster.Cluster) {
		c.Service("web", 6)
		c.Eventually(c.RunsAt("web", map[string]int{"m1": 2, "w1": 2, "w2": 2}))
		c.UpdateService("web", func(s *shoal.ServiceSpec) { *s.Mode.Replicated.Replicas = 3 })
		c.Eventually(c.RunsAt("web", map[string]int{"m1": 1, "w1": 1, "w2": 1}))
		c.RemoveService("web")
		c.Eventually(func(v store.View) string {
			for _, m := range c.Machines() {
				if n := len(m.Containers()); n > 0 {
					return fmt.Sprintf("%s still has %d containers", m.Name, n)
				}
			}
			if n := len(v.Tasks()); n > 0 {
				return fmt.Sprintf("%d tasks are left", n)
			}
			return ""
		})
	})
}

func TestARollingUpdateKeepsTheMinimum(t *testing.T) {
	for _, u := range []struct {
		order shoal.UpdateOrder
		least int // tasks that run at any time
		most  int // tasks that are meant to run at any time
	}{
		{shoal.StopFirst, 3, 4}, {shoal.StartFirst, 4, 5},
	} {
		t.Run(string(u.order), func(t *testing.T) {
			testcluster.Test(t, testcluster.Config{Managers: 1, Workers: 2}, func(t *testing.T, c *testcluster.Cluster) {
				for _, image := range []string{"web", "web:2"} {
					c.Image(image, testcluster.Image{Pull: time.Second, Start: 100 * time.Millisecond, Healthy: time.Second, Stop: time.Second})
				}
				c.Service("web", 4, testcluster.Published(8080), func(s *shoal.ServiceSpec) {
					s.Update = &shoal.UpdateConfig{Parallelism: 1, Delay: 3 * time.Second, Monitor: 2 * time.Second, Order: u.order}
				})
				c.Eventually(c.Runs("web", 4))
				start := time.Now()
				c.Throughout("m1", func(v store.View) string {
					running, wanted := 0, 0
					for _, task := range c.TasksOf(v, "web") {
						if task.Status.State == shoal.TaskRunning && task.Wanted() {
							running++
						}
						if task.Status.State == shoal.TaskRunning {
							wanted++
						}
					}
					if running < u.least || wanted > u.most {
						return fmt.Sprintf("%d tasks run and %d are balanced to, want %d at least and %d at most", wanted, running, u.least, u.most)
					}
					return ""
				}, func() {
					c.UpdateService("web", func(s *shoal.ServiceSpec) { s.Task.Container.Image = "web:2" })
					c.Eventually(func(v store.View) string {
						for _, task := range c.RunningOf(v, "web") {
							if task.Spec.Container.Image != "web:2" {
								return "an old task runs"
							}
						}
						if s := v.ServiceByName("web").UpdateStatus; s == nil || s.State != shoal.UpdateCompleted {
							return fmt.Sprintf("the update is %+v", s)
						}
						return c.Runs("web", 4)(v)
					})
				})
				if took := time.Since(start); took < 3*3*time.Second { // three pauses between four tasks
					t.Errorf("the update took %v and has not kept its pace", took)
				}
				for _, stop := range c.Stops() {
					if len(stop.BalancedBy) > 0 {
						t.Errorf("task %s was stopped while %v still balanced to it", stop.TaskID, stop.BalancedBy)
					}
				}
			})
		})
	}
}

func TestAFailedUpdateRollsBack(t *testing.T) {
	testcluster.Test(t, testcluster.Config{Managers: 1, Workers: 1}, func(_ *testing.T, c *testcluster.Cluster) {
		c.Image("bad", testcluster.Image{Runs: 10 * time.Millisecond, Exit: 1})
		c.Service("web", 3, func(s *shoal.ServiceSpec) {
			s.Update = &shoal.UpdateConfig{Parallelism: 1, FailureAction: shoal.RollbackOnFailure, Order: shoal.StartFirst}
			s.Rollback = &shoal.UpdateConfig{Parallelism: 1}
		})
		c.Eventually(c.Runs("web", 3))
		c.UpdateService("web", func(s *shoal.ServiceSpec) { s.Task.Container.Image = "bad" })
		c.Eventually(func(v store.View) string {
			if s := v.ServiceByName("web").UpdateStatus; s == nil || s.State != shoal.UpdateRollbackCompleted {
				return fmt.Sprintf("the update is %+v", s)
			}
			return c.Runs("web", 3)(v)
		})
	})
}

func TestAGlobalServiceFollowsTheNodes(t *testing.T) {
	testcluster.Test(t, testcluster.Config{Managers: 1, Workers: 2, Spare: 1}, func(_ *testing.T, c *testcluster.Cluster) {
		c.Service("everywhere", 1, testcluster.Everywhere)
		c.Eventually(c.RunsAt("everywhere", map[string]int{"m1": 1, "w1": 1, "w2": 1}))
		c.Join("s1", shoal.RoleWorker)
		c.Eventually(c.RunsAt("everywhere", map[string]int{"m1": 1, "s1": 1, "w1": 1, "w2": 1}))
		c.SetAvailability("w1", shoal.AvailabilityDrain)
		c.Eventually(c.RunsAt("everywhere", map[string]int{"m1": 1, "s1": 1, "w2": 1}))
		c.SetAvailability("w1", shoal.AvailabilityActive)
		c.Eventually(c.RunsAt("everywhere", map[string]int{"m1": 1, "s1": 1, "w1": 1, "w2": 1}))
		c.PowerOff("w2")
		c.Eventually(c.RunsAt("everywhere", map[string]int{"m1": 1, "s1": 1, "w1": 1}))
		c.Start("w2")
		c.Eventually(c.RunsAt("everywhere", map[string]int{"m1": 1, "s1": 1, "w1": 1, "w2": 1}))
	})
}

func TestAJobCompletes(t *testing.T) {
	testcluster.Test(t, testcluster.Config{Managers: 1, Workers: 2}, func(t *testing.T, c *testcluster.Cluster) {
		c.Image("job", testcluster.Image{Runs: 10 * time.Second})
		start := time.Now()
		c.Throughout("m1", func(v store.View) string {
			if n := len(c.RunningOf(v, "job")); n > 2 {
				return fmt.Sprintf("%d tasks of the job run at once", n)
			}
			return ""
		}, func() {
			c.Service("job", 0, func(s *shoal.ServiceSpec) {
				total, most := uint64(5), uint64(2)
				s.Mode = shoal.ServiceMode{ReplicatedJob: &shoal.ReplicatedJob{TotalCompletions: &total, MaxConcurrent: &most}}
			})
			c.Eventually(func(v store.View) string {
				tasks := c.TasksOf(v, "job")
				done := 0
				for _, task := range tasks {
					if task.Status.State == shoal.TaskComplete {
						done++
					}
				}
				if done != 5 || len(tasks) != 5 {
					return fmt.Sprintf("%d of %d tasks have completed", done, len(tasks))
				}
				return ""
			})
		})
		if took := time.Since(start); took < 30*time.Second || took > 32*time.Second { // three rounds of ten seconds
			t.Errorf("the job took %v", took)
		}
	})
}

func TestACrashingTaskIsRestartedAfterItsDelay(t *testing.T) {
	testcluster.Test(t, testcluster.Config{Managers: 1, Workers: 1}, func(t *testing.T, c *testcluster.Cluster) {
		c.Image("flaky", testcluster.Image{Runs: time.Minute, Exit: 3})
		c.Service("flaky", 1, func(s *shoal.ServiceSpec) {
			delay := 20 * time.Second
			s.Task.Restart = &shoal.RestartPolicy{Condition: shoal.RestartAny, Delay: &delay}
		})
		c.Eventually(c.Runs("flaky", 1))
		time.Sleep(3 * 80 * time.Second)
		failed := 0
		for _, task := range c.TasksOf(c.View(), "flaky") {
			if task.Status.State == shoal.TaskFailed && task.Status.Container.ExitCode == 3 {
				failed++
			}
		}
		if failed != 3 {
			t.Errorf("%d tasks have failed in three times 80 s, want 3", failed)
		}
	})
}

func TestASecretReachesOnlyItsTasks(t *testing.T) {
	testcluster.Test(t, testcluster.Config{Managers: 1, Workers: 2}, func(t *testing.T, c *testcluster.Cluster) {
		password := c.Secret("password", "xyzzy")
		c.Service("db", 1, password)
		c.Service("web", 3)
		c.Eventually(c.Runs("db", 1))
		c.Eventually(c.Runs("web", 3))
		db := c.RunningOf(c.View(), "db")[0]
		for _, m := range c.Machines() {
			for _, container := range m.Containers() {
				got, has := container.Secrets["password"]
				if want := container.TaskID == db.ID; has != want || has && got != "xyzzy" {
					t.Errorf("container %s on %s has password %q", container.ID, m.Name, got)
				}
			}
			sent, err := c.SessionAt("m1", m.Name) // what the machine's agent is told when it opens a session
			if err != nil || sent.Tasks == nil || !sent.Tasks.Full {
				t.Fatalf("%s is told %+v, %v", m.Name, sent, err)
			}
			if got, want := len(sent.Tasks.Secrets) > 0, db.NodeID == c.Node(m.Name).ID; got != want {
				t.Errorf("secrets are sent to %s: %v", m.Name, got)
			}
		}
		c.Eventually(c.Runs("web", 3))
	})
}

func TestLogsAreReadThroughTheLeader(t *testing.T) {
	testcluster.Test(t, testcluster.Config{Managers: 2, Workers: 2}, func(t *testing.T, c *testcluster.Cluster) {
		c.Image("web", testcluster.Image{Lines: []string{"one", "two"}})
		c.Service("web", 4)
		c.Eventually(c.Runs("web", 4))
		for _, manager := range []string{"m1", "m2"} { // the leader, and one that asks it
			var lines []string
			err := c.Logs(t.Context(), manager, "web", false, func(l shoal.LogLine) error {
				lines = append(lines, l.Err+string(l.Data))
				return nil
			})
			slices.Sort(lines)
			if want := slices.Repeat([]string{"one\n"}, 4); err != nil || !slices.Equal(lines, append(want, slices.Repeat([]string{"two\n"}, 4)...)) {
				t.Errorf("%s reads %q, %v", manager, lines, err)
			}
		}
	})
}

func TestALostNodeEndsItsPartOfAFollowedLog(t *testing.T) {
	testcluster.Test(t, testcluster.Config{Managers: 1, Workers: 1}, func(t *testing.T, c *testcluster.Cluster) {
		c.Image("web", testcluster.Image{Lines: []string{"hello"}})
		c.Service("web", 1, func(s *shoal.ServiceSpec) {
			s.Task.Placement = &shoal.Placement{Constraints: []string{"node.role==worker"}}
		})
		c.Eventually(c.Runs("web", 1))
		read := make(chan string, 10)
		ended := make(chan error, 1)
		go func() {
			ended <- c.Logs(t.Context(), "m1", "web", true, func(l shoal.LogLine) error {
				read <- l.Err + string(l.Data)
				return nil
			})
		}()
		if line := <-read; line != "hello\n" {
			t.Errorf("the first line is %q", line)
		}
		c.PowerOff("w1")
		if line := <-read; line != "node w1 is not available" {
			t.Errorf("of a node that is lost is said %q", line)
		}
		if err := <-ended; err != nil {
			t.Errorf("the log ends with %v", err)
		}
	})
}

func TestAMissingImageIsNotTriedAllTheTime(t *testing.T) {
	testcluster.Test(t, testcluster.Config{Managers: 1, Workers: 1}, func(t *testing.T, c *testcluster.Cluster) {
		c.Image("missing", testcluster.Image{Missing: true})
		_, sub := c.Machine("m1").Store().Subscribe()
		defer sub.Close()
		c.Service("missing", 1, func(s *shoal.ServiceSpec) {
			s.Task.Restart = &shoal.RestartPolicy{Condition: shoal.RestartAny, Delay: new(10 * time.Millisecond)}
		})
		made, waiting := 0, 0
		for range 60 {
			time.Sleep(time.Second)
			for _, batch := range sub.Take() {
				for _, change := range batch.Changes {
					if change.Kind == store.KindTask && change.Old == nil {
						made++
					}
				}
			}
			for _, task := range c.TasksOf(c.View(), "missing") {
				if task.DesiredState == shoal.TaskReady && task.Status.State == shoal.TaskAssigned {
					waiting++ // as Docker shows it
				}
			}
			if made > 1000 {
				break
			}
		}
		t.Logf("%d tasks in a minute", made)
		if made > 20 || made < 5 || waiting < 50 {
			t.Errorf("%d tasks in a minute; a successor was seen to wait %d times of 60", made, waiting)
		}
		c.Image("missing", testcluster.Image{})
		c.UpdateService("missing", func(s *shoal.ServiceSpec) { s.Task.ForceUpdate++ })
		if took := c.Eventually(c.Runs("missing", 1)); took > time.Second {
			t.Errorf("a new spec starts after %v", took)
		}
		c.Eventually(func(v store.View) string {
			for _, task := range c.TasksOf(v, "missing") {
				if !task.Wanted() && !task.Status.State.Ended() {
					return fmt.Sprintf("task %s, which was held, is %s", task.ID, task.Status.State)
				}
			}
			return ""
		})
	})
}
