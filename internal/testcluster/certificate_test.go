package testcluster_test

import (
	"bytes"
	"testing"
	"time"

	"github.com/shoal-dev/shoal/internal/membership"
	"github.com/shoal-dev/shoal/internal/shoal"
	"github.com/shoal-dev/shoal/internal/store"
	"github.com/shoal-dev/shoal/internal/testcluster"
)

func TestCertificatesAreRenewed(t *testing.T) {
	spec := shoal.ClusterSpec{CertExpiry: 2 * time.Hour, HeartbeatPeriod: 40 * time.Second} // few heartbeats, so that hours pass quickly
	testcluster.Test(t, testcluster.Config{Managers: 1, Workers: 1, Spec: spec}, func(t *testing.T, c *testcluster.Cluster) {
		c.Service("web", 2)
		c.Eventually(c.Runs("web", 2))
		before := c.RunningOf(c.View(), "web")
		time.Sleep(3 * time.Hour)
		for _, m := range c.Machines() {
			if cert := m.Certificate(); !cert.NotAfter.After(time.Now()) {
				t.Errorf("%s has a certificate that ended at %v", m.Name, cert.NotAfter)
			}
			c.Stop(m.Name) // whatever was negotiated before is gone
			c.Start(m.Name)
			c.Eventually(c.IsNode(m.Name, shoal.NodeReady))
		}
		for _, task := range before {
			if now := c.View().Task(task.ID); now == nil || now.Status.State != shoal.TaskRunning {
				t.Errorf("task %s is %+v", task.ID, now)
			}
		}
	})
}

func TestTheRootIsRotated(t *testing.T) {
	testcluster.Test(t, testcluster.Config{Managers: 3, Workers: 2, Spare: 1}, func(t *testing.T, c *testcluster.Cluster) {
		c.Eventually(c.Managers("m1", "m2", "m3"))
		c.Service("web", 5)
		c.Eventually(c.Runs("web", 5))
		old := c.View().Cluster()
		c.Kill("w1") // it is waited for
		c.UpdateCluster(membership.RotateRoot)
		time.Sleep(time.Minute)
		if c.View().Cluster().Rotation == nil {
			t.Fatal("the rotation has ended although a node does not trust the new root yet")
		}
		c.Start("w1")
		c.Within(30*time.Second, func(v store.View) string {
			if cluster := v.Cluster(); cluster.Rotation != nil || bytes.Equal(cluster.RootCA, old.RootCA) {
				return "the rotation has not ended"
			}
			return ""
		})
		if err := c.TryJoin("s1", old.Tokens.Worker); err == nil {
			t.Error("a join token of the old root admits a node")
		}
		c.Join("s1", shoal.RoleWorker)
		c.Kill(c.Leader().Name)
		c.Eventually(c.IsNode("s1", shoal.NodeReady))
		c.Eventually(c.Runs("web", 5))
	})
}
