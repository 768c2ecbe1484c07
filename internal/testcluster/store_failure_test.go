package testcluster_test

import (
	"syscall"
	"testing"
	"time"

	"github.com/shoal-dev/shoal/internal/shoal"
	"github.com/shoal-dev/shoal/internal/store"
	"github.com/shoal-dev/shoal/internal/testcluster"
)

// A store member that stopped by itself was once taken for one that had been removed, and its data, the only copy, was deleted.
func TestAStoreMemberThatFailsKeepsItsData(t *testing.T) {
	for _, managers := range []int{1, 3} {
		testcluster.Test(t, testcluster.Config{Managers: managers}, func(t *testing.T, c *testcluster.Cluster) {
			c.Service("web", 3)
			c.Eventually(c.Runs("web", 3))
			before := c.RunningOf(c.View(), "web")
			member := c.Node("m1").Manager.MemberID
			c.FailStore("m1", syscall.ENOSPC)
			c.Within(30*time.Second, func(store.View) string {
				if s := c.Machine("m1").Store(); s == nil || s.View().ServiceByName("web") == nil {
					return "m1 has not got its state back"
				}
				return ""
			})
			c.Eventually(c.IsNode("m1", shoal.NodeReady))
			c.Eventually(c.Runs("web", 3))
			if now := c.Node("m1").Manager.MemberID; now != member {
				t.Errorf("m1 came back as member %s, it was %s: its data was thrown away", now, member)
			}
			for _, task := range before {
				if now := c.View().Task(task.ID); now == nil || now.Status.State != shoal.TaskRunning {
					t.Errorf("task %s is %+v", task.ID, now)
				}
			}
			c.Service("after", 1)
			c.Eventually(c.Runs("after", 1))
		})
	}
}
