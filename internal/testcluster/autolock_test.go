package testcluster_test

import (
	"testing"
	"time"

	"github.com/shoal-dev/shoal/internal/membership"
	"github.com/shoal-dev/shoal/internal/shoal"
	"github.com/shoal-dev/shoal/internal/store"
	"github.com/shoal-dev/shoal/internal/testcluster"
)

// A demoted manager that learned of its end from the store first, and only then from the leader, kept its key encrypted: after a restart it
// waited for an unlock key that workers do not have.
func TestADemotedManagersKeyIsOpenHoweverItLearnsOfIt(t *testing.T) {
	testcluster.Test(t, testcluster.Config{Managers: 3}, func(_ *testing.T, c *testcluster.Cluster) {
		victim := c.Machine("m3")
		if victim.Leads() {
			victim = c.Machine("m2")
		}
		locked := func(want bool) func(store.View) string {
			return func(store.View) string {
				if victim.KeyLocked() != want {
					return "the key is not as it should be"
				}
				return ""
			}
		}
		c.UpdateCluster(func(cluster *shoal.Cluster) error {
			cluster.Spec.AutoLock = true
			membership.SetAutolock(cluster, false)
			return nil
		})
		c.Eventually(locked(true))
		c.Block(c.Leader().Name, victim.Name) // no welcome arrives, and the others remove it meanwhile
		c.SetRole(victim.Name, shoal.RoleWorker)
		c.FailStore(victim.Name, store.ErrRemoved)
		time.Sleep(5 * time.Second) // it asks another manager for a worker's certificate
		c.Mend()
		c.Eventually(locked(false))
	})
}
