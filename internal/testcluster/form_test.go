package testcluster_test

import (
	"testing"

	"github.com/shoal-dev/shoal/internal/testcluster"
)

func TestManagersAndWorkersForm(t *testing.T) {
	testcluster.Test(t, testcluster.Config{Managers: 3, Workers: 2}, func(c *testcluster.Cluster) {
		c.Eventually(c.Managers("m1", "m2", "m3"))
		c.Service("web", 5)
		c.Eventually(c.RunsAt("web", map[string]int{"m1": 1, "m2": 1, "m3": 1, "w1": 1, "w2": 1}))
	})
}
