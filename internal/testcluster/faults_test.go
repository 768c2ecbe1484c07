package testcluster_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/shoal-dev/shoal/internal/shoal"
	"github.com/shoal-dev/shoal/internal/store"
	"github.com/shoal-dev/shoal/internal/testcluster"
)

// TestTheClusterSurvivesWhatMayHappen takes a few of the courses that test/sim takes many of, for the race detector.
func TestTheClusterSurvivesWhatMayHappen(t *testing.T) {
	const seeds = 4
	for seed := range uint64(seeds) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) { testcluster.Simulate(t, seed) })
	}
}

func TestABlockedStreamCostsTheNodeItsTasks(t *testing.T) {
	for _, direction := range [][2]string{{"m1", "w1"}, {"w1", "m1"}} {
		t.Run(direction[0]+" to "+direction[1], func(t *testing.T) {
			testcluster.Test(t, testcluster.Config{Managers: 1, Workers: 2}, func(_ *testing.T, c *testcluster.Cluster) {
				c.Service("web", 3, testcluster.Published(8080))
				c.Eventually(c.RunsAt("web", map[string]int{"m1": 1, "w1": 1, "w2": 1}))
				c.Block(direction[0], direction[1])
				c.Within(10*time.Second, c.IsNode("w1", shoal.NodeDown))
				c.Eventually(c.Runs("web", 3))
				c.Mend()
				c.Within(10*time.Second, testcluster.All(c.IsNode("w1", shoal.NodeReady), c.OnlyWantedContainers(), c.TablesAreRight("web")))
			})
		})
	}
}

func TestAStalledWorkerLosesItsTasks(t *testing.T) {
	testcluster.Test(t, testcluster.Config{Managers: 1, Workers: 2}, func(t *testing.T, c *testcluster.Cluster) {
		c.Service("web", 3)
		c.Eventually(c.RunsAt("web", map[string]int{"m1": 1, "w1": 1, "w2": 1}))
		c.Stall("w1")
		c.Within(10*time.Second, c.IsNode("w1", shoal.NodeDown))
		c.Eventually(c.Runs("web", 3))
		time.Sleep(10 * time.Second)
		if n := len(c.Machine("w1").Containers()); n != 1 {
			t.Errorf("the stalled daemon has %d containers: it can neither start nor remove one", n)
		}
		c.Continue("w1")
		c.Within(10*time.Second, testcluster.All(c.IsNode("w1", shoal.NodeReady), c.OnlyWantedContainers()))
	})
}

func TestAStalledLeaderWritesNothingAfterwards(t *testing.T) {
	testcluster.Test(t, testcluster.Config{Managers: 3, Workers: 1}, func(_ *testing.T, c *testcluster.Cluster) {
		c.Service("web", 4)
		c.Eventually(c.Runs("web", 4))
		before := c.Leader()
		c.Stall(before.Name)
		c.Eventually(func(store.View) string {
			if c.Leader() == before {
				return "the stalled manager leads"
			}
			return ""
		})
		c.Service("late", 3)
		c.Eventually(c.Runs("late", 3))
		c.Continue(before.Name)
		c.Eventually(testcluster.All(c.IsNode(before.Name, shoal.NodeReady), c.Runs("web", 4), c.Runs("late", 3), c.OnlyWantedContainers(),
			func(store.View) string {
				if before.Leads() {
					return before.Name + " still believes that it leads"
				}
				return ""
			}))
	})
}

func TestAMachineThatHasLostItsDiskIsReplaced(t *testing.T) {
	testcluster.Test(t, testcluster.Config{Managers: 3, Workers: 1}, func(_ *testing.T, c *testcluster.Cluster) {
		c.Service("web", 4)
		c.Eventually(c.RunsAt("web", map[string]int{"m1": 1, "m2": 1, "m3": 1, "w1": 1}))
		for _, name := range []string{"w1", "m1"} { // the leader among them
			c.LoseDisk(name)
			c.Eventually(c.Runs("web", 4))
			c.Start(name)
			c.Replace(name)
			c.Eventually(testcluster.All(c.IsNode(name, shoal.NodeReady), c.Managers("m1", "m2", "m3"), c.Runs("web", 4), c.OnlyWantedContainers()))
		}
	})
}
