package testcluster_test

import (
	"testing"
	"time"

	"github.com/shoal-dev/shoal/internal/shoal"
	"github.com/shoal-dev/shoal/internal/testcluster"
)

// Two of three managers are lost for good: tasks go on meanwhile and afterwards, and the last manager has control again.
func TestTheLastManagerForcesANewCluster(t *testing.T) {
	for _, rebooted := range []bool{false, true} {
		testcluster.Test(t, testcluster.Config{Managers: 3, Workers: 2}, func(t *testing.T, c *testcluster.Cluster) {
			c.Eventually(c.Managers("m1", "m2", "m3"))
			c.Service("web", 10)
			c.Eventually(c.Runs("web", 10))
			before := c.RunningOf(c.View(), "web")
			token := c.View().Cluster().Tokens
			c.PowerOff("m1")
			c.PowerOff("m2")
			time.Sleep(10 * time.Second)
			if rebooted {
				c.Kill("m3")
				c.Start("m3")
			}
			c.ForceNewCluster("m3")
			c.Within(15*time.Second, c.Managers("m3"))
			c.Eventually(c.Runs("web", 10))
			for _, task := range before {
				survivor := task.NodeID != c.Node("m1").ID && task.NodeID != c.Node("m2").ID
				if now := c.View().Task(task.ID); survivor && (now == nil || now.Status.State != shoal.TaskRunning || !now.RunningSince.Equal(task.RunningSince)) {
					t.Errorf("task %s has not lived through it: %+v", task.ID, now)
				}
			}
			if c.View().Cluster().Tokens != token {
				t.Error("the join tokens are others")
			}
			c.Start("m1") // it learns what has become of it
			c.Eventually(c.IsNode("m1", shoal.NodeReady))
			c.Eventually(c.Managers("m3"))
			c.SetRole("m1", shoal.RoleManager)
			c.Eventually(c.Managers("m1", "m3"))
		})
	}
}
