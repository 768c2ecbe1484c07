package testcluster_test

import (
	"net"
	"slices"
	"testing"
	"time"

	"github.com/shoal-dev/shoal/internal/shoal"
	"github.com/shoal-dev/shoal/internal/store"
	"github.com/shoal-dev/shoal/internal/testcluster"
)

func TestManagersAndWorkersForm(t *testing.T) {
	testcluster.Test(t, testcluster.Config{Managers: 3, Workers: 2}, func(t *testing.T, c *testcluster.Cluster) {
		c.Eventually(c.Managers("m1", "m2", "m3"))
		for _, m := range c.Machines() {
			c.Eventually(c.IsNode(m.Name, shoal.NodeReady))
			if n := c.Node(m.Name); n.Description.Hostname != m.Name || n.DataAddr != m.Addr || n.Status.Addr != m.Addr {
				t.Errorf("node %s is known as %+v", m.Name, n)
			}
		}
		if leader := c.Leader(); leader.Name != "m1" {
			t.Errorf("%s leads, although the founder never stopped", leader.Name)
		}
	})
}

func TestEveryManagerHasTheSameState(t *testing.T) {
	testcluster.Test(t, testcluster.Config{Managers: 3}, func(t *testing.T, c *testcluster.Cluster) {
		c.Service("web", 3)
		c.Eventually(c.Runs("web", 3))
		time.Sleep(time.Second)
		want := c.Machine("m1").Store().View()
		for _, name := range []string{"m2", "m3"} {
			got := c.Machine(name).Store().View()
			if got.Revision() != want.Revision() || len(got.Tasks()) != 3 || got.Leader() != want.Leader() {
				t.Errorf("%s is at revision %d with %d tasks, m1 at %d", name, got.Revision(), len(got.Tasks()), want.Revision())
			}
		}
	})
}

func TestAWorkerJoinsLater(t *testing.T) {
	testcluster.Test(t, testcluster.Config{Managers: 1, Spare: 1}, func(t *testing.T, c *testcluster.Cluster) {
		c.Service("everywhere", 1, testcluster.Everywhere)
		c.Eventually(c.RunsAt("everywhere", map[string]int{"m1": 1}))
		c.Join("s1", shoal.RoleWorker)
		c.Eventually(c.RunsAt("everywhere", map[string]int{"m1": 1, "s1": 1}))
		if info := c.Machine("s1").Info(); info.State != "active" || info.IsManager {
			t.Errorf("s1 is %+v", info)
		}
	})
}

func TestAWrongTokenAdmitsNobody(t *testing.T) {
	testcluster.Test(t, testcluster.Config{Managers: 1, Spare: 1}, func(t *testing.T, c *testcluster.Cluster) {
		err := c.TryJoin("s1", "SWMTKN-1-1unfsn86rh3y9muzn12cqqd7ijczdcozm5sbgefm1uh93i5y0b-5qhszztlr9x4bz4p2hqhvj3s2")
		if err == nil {
			t.Fatal("s1 has joined")
		}
		if info := c.Machine("s1").Info(); info.State != "inactive" || len(c.View().Nodes()) != 1 {
			t.Errorf("after %v, s1 is %+v and the cluster has %d nodes", err, info, len(c.View().Nodes()))
		}
	})
}

func TestPromotionAndDemotion(t *testing.T) {
	testcluster.Test(t, testcluster.Config{Managers: 1, Workers: 2}, func(t *testing.T, c *testcluster.Cluster) {
		c.Service("web", 6)
		c.Eventually(c.Runs("web", 6))
		before := c.RunningOf(c.View(), "web")
		c.SetRole("w1", shoal.RoleManager)
		c.SetRole("w2", shoal.RoleManager)
		c.Within(10*time.Second, c.Managers("m1", "w1", "w2"))
		c.SetRole("w1", shoal.RoleWorker)
		c.Within(10*time.Second, c.Managers("m1", "w2"))
		c.Eventually(func(store.View) string {
			if info := c.Machine("w1").Info(); info.IsManager || info.State != "active" {
				return "w1 has not settled as a worker"
			}
			return ""
		})
		c.SetRole("w1", shoal.RoleManager) // and back again
		c.Within(20*time.Second, c.Managers("m1", "w1", "w2"))
		c.Eventually(c.Runs("web", 6))
		for _, task := range before { // no task has noticed
			if now := c.View().Task(task.ID); now == nil || now.Status.State != shoal.TaskRunning || !now.RunningSince.Equal(task.RunningSince) {
				t.Errorf("task %s has not lived through the changes of roles: %+v", task.ID, now)
			}
		}
	})
}

func TestTheLeaderIsDemoted(t *testing.T) {
	testcluster.Test(t, testcluster.Config{Managers: 3}, func(_ *testing.T, c *testcluster.Cluster) {
		c.Eventually(c.Managers("m1", "m2", "m3"))
		c.SetRole("m1", shoal.RoleWorker)
		c.Within(15*time.Second, c.Managers("m2", "m3"))
		c.Service("web", 3)
		c.Eventually(c.RunsAt("web", map[string]int{"m1": 1, "m2": 1, "m3": 1}))
	})
}

func TestAWorkerLeavesAndIsRemoved(t *testing.T) {
	testcluster.Test(t, testcluster.Config{Managers: 1, Workers: 2}, func(t *testing.T, c *testcluster.Cluster) {
		c.Service("web", 3)
		c.Eventually(c.RunsAt("web", map[string]int{"m1": 1, "w1": 1, "w2": 1}))
		c.Leave("w2")
		if n := len(c.Machine("w2").Containers()); n != 0 {
			t.Errorf("%d containers are left on a machine that has left", n)
		}
		c.Within(time.Second, c.IsNode("w2", shoal.NodeDown)) // it said so: nobody waits for its heartbeat
		c.Eventually(c.Runs("web", 3))
		c.RemoveNode("w2")
		c.Eventually(func(v store.View) string {
			if n := len(v.Nodes()); n != 2 {
				return "the node is still there"
			}
			return c.Runs("web", 3)(v)
		})
		c.Join("w2", shoal.RoleWorker) // as another node
		c.Eventually(c.IsNode("w2", shoal.NodeReady))
	})
}

func TestAManagerLeavesWithoutCostingTheMajority(t *testing.T) {
	for _, leaver := range []string{"m1", "m3"} { // the leader, and another
		t.Run(leaver, func(t *testing.T) {
			testcluster.Test(t, testcluster.Config{Managers: 3}, func(_ *testing.T, c *testcluster.Cluster) {
				c.Eventually(c.Managers("m1", "m2", "m3"))
				c.Leave(leaver)
				rest := slices.DeleteFunc([]string{"m1", "m2", "m3"}, func(name string) bool { return name == leaver })
				c.Within(5*time.Second, c.Managers(rest...))
				c.Service("web", 2)
				c.Eventually(c.Runs("web", 2))
			})
		})
	}
}

func TestAnAgentIsRedirectedToTheLeader(t *testing.T) {
	testcluster.Test(t, testcluster.Config{Managers: 3, Workers: 1}, func(t *testing.T, c *testcluster.Cluster) {
		c.Eventually(c.Managers("m1", "m2", "m3"))
		answer, err := c.SessionAt("m2", "w1")
		if err != nil {
			t.Fatal(err)
		}
		if want := net.JoinHostPort(c.Leader().Addr.String(), "2377"); answer.Redirect == nil || answer.Redirect.Leader != want {
			t.Errorf("m2 answers hello with %+v, want a redirection to %s", answer, want)
		}
	})
}
