package testcluster_test

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/shoal-dev/shoal/internal/shoal"
	"github.com/shoal-dev/shoal/internal/store"
	"github.com/shoal-dev/shoal/internal/testcluster"
)

// What docs/membership.md promises: half a heartbeat period until a node counts as lost, and an election on top if it led.
const (
	lossLimit   = 2500*time.Millisecond + 100*time.Millisecond
	leaderLimit = 4300 * time.Millisecond
)

func TestTasksOfALostWorkerRunElsewhere(t *testing.T) {
	for name, lose := range map[string]func(*testcluster.Cluster, string){
		"its daemon is killed": (*testcluster.Cluster).Kill,
		"it has no power":      (*testcluster.Cluster).PowerOff,
		"it is cut off":        func(c *testcluster.Cluster, name string) { c.Isolate(name) },
		"nothing it says arrives": func(c *testcluster.Cluster, name string) {
			c.Break(name, "m1")
		},
		"it hears nothing": func(c *testcluster.Cluster, name string) { c.Break("m1", name) },
	} {
		t.Run(name, func(t *testing.T) {
			testcluster.Test(t, testcluster.Config{Managers: 1, Workers: 2}, func(t *testing.T, c *testcluster.Cluster) {
				c.Service("web", 6)
				c.Eventually(c.RunsAt("web", map[string]int{"m1": 2, "w1": 2, "w2": 2}))
				start := time.Now()
				lose(c, "w1")
				c.Within(2*lossLimit, c.IsNode("w1", shoal.NodeDown)) // twice: it may have to find out that it hears nothing
				c.Eventually(c.RunsAt("web", map[string]int{"m1": 3, "w2": 3}))
				t.Logf("the tasks ran elsewhere after %v", time.Since(start))
				if took := time.Since(start); name != "it hears nothing" && took > lossLimit {
					t.Errorf("the tasks ran elsewhere after %v", took)
				}
			})
		})
	}
}

func TestALostWorkerComesBack(t *testing.T) {
	testcluster.Test(t, testcluster.Config{Managers: 1, Workers: 2}, func(_ *testing.T, c *testcluster.Cluster) {
		c.Service("web", 6)
		c.Eventually(c.Runs("web", 6))
		c.Isolate("w1")
		c.Eventually(c.IsNode("w1", shoal.NodeDown))
		c.Eventually(c.RunsAt("web", map[string]int{"m1": 3, "w2": 3}))
		c.Mend()
		c.Eventually(c.IsNode("w1", shoal.NodeReady))
		c.Eventually(func(v store.View) string {
			for _, container := range c.Machine("w1").Containers() {
				if container.Running {
					return "a task that was replaced still runs on w1"
				}
			}
			return c.Runs("web", 6)(v)
		})
	})
}

func TestARestartedDaemonKeepsItsTasks(t *testing.T) {
	for _, restart := range []struct {
		name string
		end  func(*testcluster.Cluster, string)
	}{{"stopped", (*testcluster.Cluster).Stop}, {"killed", (*testcluster.Cluster).Kill}} {
		for _, machine := range []string{"w1", "m1", "m2"} {
			t.Run(machine+" is "+restart.name, func(t *testing.T) {
				testcluster.Test(t, testcluster.Config{Managers: 3, Workers: 1}, func(t *testing.T, c *testcluster.Cluster) {
					c.Eventually(c.Managers("m1", "m2", "m3"))
					c.Service("web", 4)
					c.Eventually(c.Runs("web", 4))
					before := c.RunningOf(c.View(), "web")
					restart.end(c, machine)
					time.Sleep(time.Second) // less than the silence that the cluster bears
					c.Start(machine)
					c.Eventually(c.IsNode(machine, shoal.NodeReady))
					c.Eventually(c.Managers("m1", "m2", "m3"))
					time.Sleep(10 * time.Second)
					for _, task := range before {
						if now := c.View().Task(task.ID); now == nil || now.Status.State != shoal.TaskRunning || !now.Wanted() {
							t.Errorf("task %s did not outlive the daemon: %+v", task.ID, now)
						}
					}
					if n := len(c.TasksOf(c.View(), "web")); n != 4 {
						t.Errorf("the service has %d tasks", n)
					}
				})
			})
		}
	}
}

func TestAnotherManagerTakesOver(t *testing.T) {
	for name, lose := range map[string]func(*testcluster.Cluster, string){
		"killed": (*testcluster.Cluster).Kill, "without power": (*testcluster.Cluster).PowerOff,
		"cut off": func(c *testcluster.Cluster, name string) { c.Isolate(name) },
	} {
		t.Run(name, func(t *testing.T) {
			testcluster.Test(t, testcluster.Config{Managers: 3, Workers: 2}, func(t *testing.T, c *testcluster.Cluster) {
				c.Eventually(c.Managers("m1", "m2", "m3"))
				c.Service("before", 5)
				c.Eventually(c.Runs("before", 5))
				c.Service("pending", 5) // acknowledged, not yet carried out
				old := c.Leader().Name
				start := time.Now()
				lose(c, old)
				c.Eventually(func(store.View) string {
					if leader := c.Leader(); leader.Name == old {
						return "no other manager leads"
					}
					return ""
				})
				t.Logf("another manager leads after %v", time.Since(start))
				c.Eventually(func(v store.View) string {
					for _, service := range []string{"before", "pending"} {
						for _, task := range c.RunningOf(v, service) {
							if v.Node(task.NodeID).Description.Hostname == old {
								return "a task counts as running on the lost manager"
							}
						}
						if why := c.Runs(service, 5)(v); why != "" {
							return why
						}
					}
					return ""
				})
				if took := time.Since(start); took > leaderLimit {
					t.Errorf("all tasks ran again after %v", took)
				}
				c.Service("after", 3)
				c.Eventually(c.Runs("after", 3))
				c.Mend()
				if c.Machine(old).Store() == nil {
					c.Start(old)
				}
				c.Eventually(c.IsNode(old, shoal.NodeReady))
				c.Eventually(c.Managers("m1", "m2", "m3"))
				for _, service := range []string{"before", "pending", "after"} {
					if c.Machine(old).Store().View().ServiceByName(service) == nil {
						t.Errorf("%s does not know of service %s", old, service)
					}
				}
			})
		})
	}
}

func TestNothingAcknowledgedIsLost(t *testing.T) {
	testcluster.Test(t, testcluster.Config{Managers: 3}, func(t *testing.T, c *testcluster.Cluster) {
		c.Eventually(c.Managers("m1", "m2", "m3"))
		acknowledged := c.WriteThroughout("m2", 20*time.Millisecond, func() {
			for range 3 {
				old := c.Leader().Name
				time.Sleep(700 * time.Millisecond)
				c.Kill(old)
				time.Sleep(4 * time.Second)
				c.Start(old)
				time.Sleep(4 * time.Second)
			}
		})
		if len(acknowledged) < 50 {
			t.Errorf("only %d writes were acknowledged", len(acknowledged))
		}
		for _, name := range acknowledged {
			if c.View().ConfigByName(name) == nil {
				t.Errorf("config %s was acknowledged and is lost", name)
			}
		}
	})
}

func TestADeposedLeaderWritesNothing(t *testing.T) {
	testcluster.Test(t, testcluster.Config{Managers: 3}, func(t *testing.T, c *testcluster.Cluster) {
		c.Eventually(c.Managers("m1", "m2", "m3"))
		c.Service("web", 3)
		c.Eventually(c.Runs("web", 3))
		old := c.Leader()
		epoch := old.Epoch()
		db := old.Store()
		c.Isolate(old.Name)
		result := make(chan error, 1)
		go func() { // as a controller whose work began while it led
			next := *db.View().ServiceByName("web")
			next.Spec.Labels = map[string]string{"written": "by the deposed"}
			_, err := db.Commit(t.Context(), store.Changes{Puts: []store.Object{&next}, Fence: epoch})
			result <- err
		}()
		c.Eventually(func(store.View) string {
			if c.Leader() == old {
				return "no other manager leads"
			}
			return ""
		})
		c.Mend()
		if err := <-result; !errors.Is(err, store.ErrFenced) {
			t.Errorf("the deposed leader's commit ends with %v", err)
		}
		time.Sleep(time.Second)
		for _, m := range c.Machines() {
			if labels := m.Store().View().ServiceByName("web").Spec.Labels; len(labels) > 0 {
				t.Errorf("%s knows what the deposed leader wrote", m.Name)
			}
		}
		if old.Leads() {
			t.Error("the deposed leader still takes itself for the leader")
		}
	})
}

func TestWithoutAMajorityNothingIsWritten(t *testing.T) {
	testcluster.Test(t, testcluster.Config{Managers: 3}, func(t *testing.T, c *testcluster.Cluster) {
		c.Eventually(c.Managers("m1", "m2", "m3"))
		c.Service("web", 3)
		c.Eventually(c.Runs("web", 3))
		c.Kill("m2")
		c.Kill("m3")
		start := time.Now()
		db := c.Machine("m1").Store()
		_, err := db.Commit(t.Context(), store.Changes{Puts: []store.Object{&shoal.Config{ID: "x", Name: "x"}}})
		if !errors.Is(err, store.ErrNoLeader) || time.Since(start) != 10*time.Second {
			t.Errorf("a write without a majority ends with %v after %v", err, time.Since(start))
		}
		if n := len(c.RunningOf(db.View(), "web")); n != 3 {
			t.Errorf("reads know of %d tasks", n)
		}
		for _, name := range []string{"m1", "m2", "m3"} { // the tasks do not care
			if n := len(c.Machine(name).Containers()); n != 1 {
				t.Errorf("%s has %d containers", name, n)
			}
		}
		c.Start("m2")
		c.Eventually(func(v store.View) string {
			if c.Machine("m2").Store() == nil || !c.Leader().Leads() {
				return "no leader"
			}
			return c.Runs("web", 3)(v)
		})
	})
}

func TestAllManagersRestart(t *testing.T) {
	testcluster.Test(t, testcluster.Config{Managers: 3, Workers: 1}, func(t *testing.T, c *testcluster.Cluster) {
		c.Eventually(c.Managers("m1", "m2", "m3"))
		c.Service("web", 4)
		c.Eventually(c.Runs("web", 4))
		for _, m := range c.Machines() {
			c.PowerOff(m.Name)
		}
		time.Sleep(time.Minute)
		for _, m := range c.Machines() {
			c.Start(m.Name)
		}
		took := c.Eventually(c.Managers("m1", "m2", "m3"))
		took += c.Eventually(c.Runs("web", 4))
		t.Logf("all is as before after %v", took)
		for _, m := range c.Machines() {
			c.Eventually(c.IsNode(m.Name, shoal.NodeReady))
		}
		if fmt.Sprint(len(c.View().Nodes())) != "4" {
			t.Errorf("there are %d nodes", len(c.View().Nodes()))
		}
	})
}
