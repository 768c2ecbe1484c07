package sim

import (
	"fmt"
	"testing"
	"time"

	"github.com/shoal-dev/shoal/internal/shoal"
	"github.com/shoal-dev/shoal/internal/store"
	"github.com/shoal-dev/shoal/internal/testcluster"
)

// TestALargeServiceHoldsUpNoOther: a service of more tasks than a transaction of the store holds gets them all, and one made meanwhile gets its own at
// once. No node may run the large one's, so that the test is about managers.
func TestALargeServiceHoldsUpNoOther(t *testing.T) {
	if raceDetector {
		t.Skip("the race detector makes it ten times slower")
	}
	testcluster.Test(t, testcluster.Config{Managers: 1, Workers: 2}, func(t *testing.T, c *testcluster.Cluster) {
		const replicas = 20000
		c.Service("large", replicas, func(s *shoal.ServiceSpec) {
			s.Task.Placement = &shoal.Placement{Constraints: []string{"node.labels.large==yes"}}
		})
		c.Eventually(func(v store.View) string {
			if len(c.TasksOf(v, "large")) == 0 {
				return "no task has been made"
			}
			return ""
		})
		c.Service("small", 1)
		if took := c.Eventually(c.Runs("small", 1)); took > time.Second {
			t.Errorf("the small service runs after %v", took)
		}
		c.Eventually(func(v store.View) string {
			if n := len(c.TasksOf(v, "large")); n != replicas {
				return fmt.Sprintf("%d tasks have been made", n)
			}
			return ""
		})
		c.RemoveService("large")
		c.Service("late", 1)
		if took := c.Eventually(c.Runs("late", 1)); took > time.Second {
			t.Errorf("the service made after the large one's end runs after %v", took)
		}
		c.Eventually(func(v store.View) string {
			if n := len(v.Tasks()); n != 2 {
				return fmt.Sprintf("%d tasks are left", n)
			}
			return ""
		})
	})
}
