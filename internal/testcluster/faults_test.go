package testcluster_test

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/shoal-dev/shoal/internal/shoal"
	"github.com/shoal-dev/shoal/internal/store"
	"github.com/shoal-dev/shoal/internal/testcluster"
)

// seeds is how many different courses TestTheClusterSurvivesWhatMayHappen takes.
var seeds = flag.Uint64("seeds", 4, "courses of random mishaps to try") // each is a third of a second

// TestTheClusterSurvivesWhatMayHappen does things at random that a majority of the managers survives, or comes back from, and checks
// that the cluster comes to rest as it was asked to when all is well again.
func TestTheClusterSurvivesWhatMayHappen(t *testing.T) {
	const steps = 12
	for seed := range *seeds {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			testcluster.Test(t, testcluster.Config{Managers: 3, Workers: 3, Seed: seed}, func(t *testing.T, c *testcluster.Cluster) {
				c.Eventually(c.Managers("m1", "m2", "m3"))
				c.Service("web", 7, testcluster.Published(8080))
				c.Service("everywhere", 1, testcluster.Everywhere)
				c.Eventually(c.Runs("web", 7))
				acknowledged := c.WriteThroughout("m1", 300*time.Millisecond, func() {
					random := rand.New(rand.NewPCG(seed, seed))
					for range steps {
						mishap(c, random)
						time.Sleep(time.Duration(random.Int64N(int64(4 * time.Second))))
					}
				})
				c.Mend()
				for _, m := range c.Machines() {
					if !m.Up() {
						c.Start(m.Name)
					}
				}
				c.Leader()
				for _, m := range c.Machines() {
					c.Eventually(c.IsNode(m.Name, shoal.NodeReady))
				}
				c.Eventually(testcluster.All(c.Managers("m1", "m2", "m3"), c.Runs("web", 7), c.Runs("everywhere", 6), onlyWantedContainers(c)))
				for _, name := range acknowledged {
					if c.View().ConfigByName(name) == nil {
						t.Errorf("config %s was acknowledged and is lost", name)
					}
				}
			})
		})
	}
}

// mishap does one thing to one machine.
func mishap(c *testcluster.Cluster, random *rand.Rand) {
	all := c.Machines()
	m, other := all[random.IntN(len(all))], all[random.IntN(len(all))]
	switch random.IntN(7) {
	case 0:
		if m.Up() {
			c.Kill(m.Name)
		}
	case 1:
		if m.Up() {
			c.PowerOff(m.Name)
		}
	case 2, 3:
		if !m.Up() {
			c.Start(m.Name)
		}
	case 4:
		c.Isolate(m.Name)
	case 5:
		c.Break(m.Name, other.Name)
	case 6:
		c.Mend()
	}
}

// onlyWantedContainers says that no container runs that no task asks for, and that every task that runs has one.
func onlyWantedContainers(c *testcluster.Cluster) func(store.View) string {
	return func(v store.View) string {
		running := map[shoal.TaskID]bool{}
		for _, m := range c.Machines() {
			for _, container := range m.Containers() {
				task := v.Task(container.TaskID)
				if container.Running && (task == nil || !task.Wanted()) {
					return fmt.Sprintf("container %s runs on %s for nobody", container.ID, m.Name)
				}
				running[container.TaskID] = running[container.TaskID] || container.Running
			}
		}
		for _, task := range v.Tasks() {
			if task.Status.State == shoal.TaskRunning && !running[task.ID] {
				return fmt.Sprintf("task %s runs without a container", task.ID)
			}
		}
		return ""
	}
}
