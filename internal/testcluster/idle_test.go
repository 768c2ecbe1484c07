package testcluster_test

import (
	"context"
	"testing"
	"time"

	"github.com/shoal-dev/shoal/internal/shoal"
	"github.com/shoal-dev/shoal/internal/testcluster"
)

// By its default policy a server ends connections whose clients ask too often whether it is there (too_many_pings): followed logs broke off after half a minute in
// which nobody wrote any.
func TestAnIdleStreamIsNotEndedForItsPings(t *testing.T) {
	testcluster.Test(t, testcluster.Config{Managers: 2}, func(t *testing.T, c *testcluster.Cluster) {
		c.Eventually(c.Managers("m1", "m2"))
		c.Service("web", 1)
		c.Eventually(c.Runs("web", 1))
		ctx, cancel := context.WithCancel(t.Context())
		leader, ended := c.Leader().Name, make(chan error, 1)
		go func() { ended <- c.FollowLogsAt(ctx, leader, "m2", "web") }()
		time.Sleep(10 * time.Minute)
		select {
		case err := <-ended:
			t.Errorf("an idle stream has ended: %v", err)
		default:
			cancel()
			<-ended //nolint:errcheck // ended by cancel
		}
		cancel()
	})
}

// A manager whose first write failed, that of its own member's ID, once stopped in all its parts but the one that was asked whether it runs: it served a view that
// did not change any more.
func TestAManagerWhoseFirstWritesFailGoesOn(t *testing.T) {
	testcluster.Test(t, testcluster.Config{Managers: 1, Spare: 1}, func(t *testing.T, c *testcluster.Cluster) {
		c.RefuseWrites("s1", 3)
		c.Join("s1", shoal.RoleManager)
		c.Eventually(c.Managers("m1", "s1"))
		c.Service("web", 2)
		c.Eventually(c.Runs("web", 2))
		time.Sleep(time.Second)
		if s := c.Machine("s1").Store(); s == nil || s.View().ServiceByName("web") == nil {
			t.Error("the new manager does not follow the cluster's state")
		}
	})
}
