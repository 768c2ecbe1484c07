package testcluster_test

import (
	"testing"
	"time"

	"github.com/shoal-dev/shoal/internal/shoal"
	"github.com/shoal-dev/shoal/internal/store"
	"github.com/shoal-dev/shoal/internal/testcluster"
)

func TestADrainMovesTheTasks(t *testing.T) {
	testcluster.Test(t, testcluster.Config{Managers: 1, Workers: 2}, func(t *testing.T, c *testcluster.Cluster) {
		c.Service("web", 6, testcluster.Published(8080))
		c.Eventually(c.RunsAt("web", map[string]int{"m1": 2, "w1": 2, "w2": 2}))
		c.SetAvailability("w1", shoal.AvailabilityDrain)
		c.Within(10*time.Second, c.RunsAt("web", map[string]int{"m1": 3, "w2": 3}))
		if len(c.Stops()) != 2 {
			t.Errorf("tasks were stopped %+v", c.Stops())
		}
		for _, stop := range c.Stops() {
			if stop.Machine != "w1" || len(stop.BalancedBy) > 0 {
				t.Errorf("a task was stopped on %s while %v balanced to it", stop.Machine, stop.BalancedBy)
			}
		}
	})
}

// startFirst keeps each task until its replacement runs.
func startFirst(s *shoal.ServiceSpec) { s.Update = &shoal.UpdateConfig{Order: shoal.StartFirst} }

func TestACarefulDrainNeverHasFewer(t *testing.T) {
	testcluster.Test(t, testcluster.Config{Managers: 1, Workers: 2}, func(t *testing.T, c *testcluster.Cluster) {
		c.Image("web", testcluster.Image{Pull: 2 * time.Second, Start: time.Second, Healthy: time.Second, Stop: time.Second})
		c.Service("web", 4, testcluster.Published(8080), startFirst, func(s *shoal.ServiceSpec) {
			s.Task.Placement = &shoal.Placement{Constraints: []string{"node.role==worker"}}
		})
		c.Eventually(c.RunsAt("web", map[string]int{"w1": 2, "w2": 2}))
		c.Throughout("m1", func(v store.View) string {
			if len(c.RunningOf(v, "web")) < 4 {
				return "fewer than 4 tasks are balanced to"
			}
			return ""
		}, func() {
			c.SetAvailability("w1", shoal.AvailabilityDrain)
			c.Eventually(c.RunsAt("web", map[string]int{"w2": 4}))
		})
		for _, stop := range c.Stops() {
			if len(stop.BalancedBy) > 0 {
				t.Errorf("task %s was stopped while %v balanced to it", stop.TaskID, stop.BalancedBy)
			}
		}
	})
}

func TestAStopWaitsForEveryTable(t *testing.T) {
	testcluster.Test(t, testcluster.Config{Managers: 1, Workers: 2}, func(t *testing.T, c *testcluster.Cluster) {
		c.Service("web", 3, testcluster.Published(8080))
		c.Eventually(c.RunsAt("web", map[string]int{"m1": 1, "w1": 1, "w2": 1}))
		time.Sleep(time.Second) // every table is applied
		c.HoldTables("w2")
		start := time.Now()
		c.SetAvailability("w1", shoal.AvailabilityDrain)
		time.Sleep(3 * time.Second)
		if stops := c.Stops(); len(stops) != 0 {
			t.Fatalf("a task was stopped although w2 has not applied its table: %+v", stops)
		}
		c.ReleaseTables("w2")
		c.Within(time.Second, func(store.View) string {
			if len(c.Stops()) == 0 {
				return "the task has not been stopped"
			}
			return ""
		})
		stop := c.Stops()[0]
		if waited := stop.At.Sub(start); waited < 3*time.Second || waited > 3500*time.Millisecond || len(stop.BalancedBy) > 0 {
			t.Errorf("the task was stopped after %v while %v balanced to it", waited, stop.BalancedBy)
		}
	})
}

// The kernel of w2 refuses one network: what is on it waits for w2, everything else does not.
func TestAStopWaitsOnlyForNetworksThatLag(t *testing.T) {
	testcluster.Test(t, testcluster.Config{Managers: 1, Workers: 2}, func(t *testing.T, c *testcluster.Cluster) {
		onBroken := c.Network("broken")
		c.Service("web", 3, testcluster.Published(8080))
		c.Service("inside", 3, onBroken)
		c.Eventually(c.RunsAt("web", map[string]int{"m1": 1, "w1": 1, "w2": 1}))
		c.Eventually(c.RunsAt("inside", map[string]int{"m1": 1, "w1": 1, "w2": 1}))
		time.Sleep(time.Second) // every table is applied
		c.RefuseNetworks("w2", c.View().NetworkByName("broken").ID)
		c.SetAvailability("w1", shoal.AvailabilityDrain)
		time.Sleep(3 * time.Second)
		if stops := c.Stops(); len(stops) != 1 || c.View().Task(stops[0].TaskID).ServiceName != "web" || len(stops[0].BalancedBy) > 0 {
			t.Fatalf("tasks were stopped: %+v", stops)
		}
		c.RefuseNetworks("w2")
		c.Within(2*time.Second, func(store.View) string { // the next attempt takes a while
			if len(c.Stops()) < 2 {
				return "the other task has not been stopped"
			}
			return ""
		})
		if stop := c.Stops()[1]; len(stop.BalancedBy) > 0 {
			t.Errorf("the task was stopped while %v balanced to it", stop.BalancedBy)
		}
	})
}

func TestAStopWaitsForNobodyLongerThanItsLimit(t *testing.T) {
	testcluster.Test(t, testcluster.Config{Managers: 1, Workers: 2}, func(t *testing.T, c *testcluster.Cluster) {
		c.Service("web", 3, testcluster.Published(8080))
		c.Eventually(c.RunsAt("web", map[string]int{"m1": 1, "w1": 1, "w2": 1}))
		time.Sleep(time.Second)
		c.HoldTables("w2")
		start := time.Now()
		c.SetAvailability("w1", shoal.AvailabilityDrain)
		c.Eventually(func(store.View) string {
			if len(c.Stops()) == 0 {
				return "the task has not been stopped"
			}
			return ""
		})
		if waited := c.Stops()[0].At.Sub(start); waited < 15*time.Second || waited > 15500*time.Millisecond {
			t.Errorf("the task was stopped after %v, want 15 s", waited)
		}
	})
}
