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

// A node once looked at its certificate every hour, and was too late for one of an hour.
func TestCertificatesOfAnHourAreRenewed(t *testing.T) {
	spec := shoal.ClusterSpec{CertExpiry: time.Hour, HeartbeatPeriod: 40 * time.Second}
	testcluster.Test(t, testcluster.Config{Managers: 3, Workers: 1, Spec: spec}, func(t *testing.T, c *testcluster.Cluster) {
		c.Service("web", 2)
		c.Eventually(c.Runs("web", 2))
		for range 6 {
			time.Sleep(30 * time.Minute)
			for _, m := range c.Machines() {
				if left := time.Until(m.Certificate().NotAfter); left < 28*time.Minute {
					t.Errorf("%s has a certificate for another %v", m.Name, left)
				}
			}
		}
		c.Kill("m1")
		c.Start("m1")
		c.Eventually(c.IsNode("m1", shoal.NodeReady))
		c.Eventually(c.Runs("web", 2))
	})
}

// A node whose certificate expired while it was off was once lost, and so was a cluster that was off as a whole.
func TestAClusterThatWasOffForMonthsComesBack(t *testing.T) {
	for _, managers := range []int{1, 3} {
		testcluster.Test(t, testcluster.Config{Managers: managers, Workers: 2}, func(_ *testing.T, c *testcluster.Cluster) {
			c.Service("web", 5)
			c.Eventually(c.Runs("web", 5))
			for _, m := range c.Machines() {
				c.PowerOff(m.Name)
			}
			time.Sleep(100 * 24 * time.Hour)
			for _, m := range c.Machines() {
				c.Start(m.Name)
			}
			for _, m := range c.Machines() {
				c.Eventually(func(store.View) string {
					if cert := m.Certificate(); !cert.NotAfter.After(time.Now()) {
						return m.Name + " still has a certificate that has ended"
					}
					return ""
				})
				c.Eventually(c.IsNode(m.Name, shoal.NodeReady))
			}
			c.Eventually(c.Runs("web", 5))
		})
	}
}

func TestANodeWhoseCertificateExpiredComesBackOnlyIfItIsKnown(t *testing.T) {
	spec := shoal.ClusterSpec{CertExpiry: time.Hour, HeartbeatPeriod: 40 * time.Second}
	testcluster.Test(t, testcluster.Config{Managers: 3, Workers: 2, Spec: spec}, func(t *testing.T, c *testcluster.Cluster) {
		c.Eventually(c.Managers("m1", "m2", "m3"))
		for _, name := range []string{"m3", "w1", "w2"} {
			c.PowerOff(name)
		}
		c.Eventually(c.IsNode("w2", shoal.NodeDown))
		c.RemoveNode("w2")
		time.Sleep(3 * time.Hour)
		for _, name := range []string{"m3", "w1", "w2"} {
			c.Start(name)
		}
		c.Eventually(c.IsNode("m3", shoal.NodeReady))
		c.Eventually(c.IsNode("w1", shoal.NodeReady))
		c.Eventually(c.Managers("m1", "m2", "m3"))
		time.Sleep(time.Minute)
		if cert := c.Machine("w2").Certificate(); cert.NotAfter.After(time.Now()) {
			t.Error("a node that was removed got a new certificate")
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
