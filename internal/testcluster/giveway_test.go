package testcluster_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/shoal-dev/shoal/internal/shoal"
	"github.com/shoal-dev/shoal/internal/store"
	"github.com/shoal-dev/shoal/internal/testcluster"
)

// tight is the ways in which a service may leave no room for a replacement beside the task that it replaces.
func tight() map[string]func(*shoal.ServiceSpec) {
	return map[string]func(*shoal.ServiceSpec){
		"host-mode port": hostPort,
		"resources": func(s *shoal.ServiceSpec) {
			s.Task.Resources = &shoal.ResourceRequirements{Reservations: &shoal.Resources{NanoCPUs: 3e9}}
		},
		"replicas per node": func(s *shoal.ServiceSpec) { s.Task.Placement = &shoal.Placement{MaxReplicas: 1} },
		"constraint": func(s *shoal.ServiceSpec) {
			s.Task.Placement = &shoal.Placement{Constraints: []string{"node.hostname==w1"}}
			s.Mode.Replicated.Replicas = new(uint64(1))
		},
	}
}

func hostPort(s *shoal.ServiceSpec) {
	s.Endpoint = &shoal.EndpointSpec{Ports: []shoal.Port{{Protocol: shoal.TCP, Target: 80, Published: 8080, Mode: shoal.PublishHost}}}
}

func updated(c *testcluster.Cluster, service, image string) func(store.View) string {
	return func(v store.View) string {
		if s := v.ServiceByName(service).UpdateStatus; s == nil || s.State != shoal.UpdateCompleted {
			return fmt.Sprintf("the update is %+v", s)
		}
		for _, task := range c.RunningOf(v, service) {
			if task.Spec.Container.Image != image {
				return "task " + string(task.ID) + " has image " + task.Spec.Container.Image
			}
		}
		return ""
	}
}

// TestADrainEndsWhereNothingCanStartFirst: a start-first service whose replacement finds no node leaves the drained node all the same, comes
// back with the node, and is updated afterwards.
func TestADrainEndsWhereNothingCanStartFirst(t *testing.T) {
	for name, option := range tight() {
		t.Run(name, func(t *testing.T) {
			testcluster.Test(t, testcluster.Config{Managers: 1, Workers: 2}, func(t *testing.T, c *testcluster.Cluster) {
				c.Service("web", 3, startFirst, option)
				all, left := map[string]int{"m1": 1, "w1": 1, "w2": 1}, map[string]int{"m1": 1, "w2": 1}
				if name == "constraint" {
					all, left = map[string]int{"w1": 1}, map[string]int{}
				}
				c.Eventually(c.RunsAt("web", all))
				c.SetAvailability("w1", shoal.AvailabilityDrain)
				c.Within(10*time.Second, testcluster.All(c.RunsAt("web", left), c.OnlyWantedContainers()))
				for _, task := range c.TasksOf(c.View(), "web") {
					if task.Status.State == shoal.TaskPending && !gaveWay(task) {
						t.Errorf("the task that waits says %q", task.Status.Message)
					}
				}
				c.SetAvailability("w1", shoal.AvailabilityActive)
				c.Within(10*time.Second, testcluster.All(c.RunsAt("web", all), c.Runs("web", len(all))))
				c.UpdateService("web", func(s *shoal.ServiceSpec) { s.Task.Container.Image = "web:2" })
				c.Within(time.Minute, testcluster.All(updated(c, "web", "web:2"), c.RunsAt("web", all), c.Runs("web", len(all))))
			})
		})
	}
}

// TestAnUpdateEndsWhereNothingCanStartFirst: the old tasks hold what the new ones need.
func TestAnUpdateEndsWhereNothingCanStartFirst(t *testing.T) {
	for name, option := range tight() {
		for mode, everywhere := range map[string]func(*shoal.ServiceSpec){"replicated": func(*shoal.ServiceSpec) {}, "global": testcluster.Everywhere} {
			if name == "constraint" || mode == "global" && name == "replicas per node" {
				continue
			}
			t.Run(name+" "+mode, func(t *testing.T) {
				testcluster.Test(t, testcluster.Config{Managers: 1, Workers: 2}, func(t *testing.T, c *testcluster.Cluster) {
					c.Image("web", testcluster.Image{Stop: 3 * time.Second})
					c.Service("web", 3, startFirst, option, everywhere)
					c.Eventually(c.Runs("web", 3))
					said := false
					c.Throughout("m1", func(v store.View) string {
						for _, task := range c.TasksOf(v, "web") {
							said = said || gaveWay(task)
						}
						if n := len(c.RunningOf(v, "web")); n < 1 {
							return "nothing runs"
						}
						return ""
					}, func() {
						c.UpdateService("web", func(s *shoal.ServiceSpec) { s.Update.Parallelism, s.Task.Container.Image = 1, "web:2" })
						c.Within(time.Minute, testcluster.All(updated(c, "web", "web:2"), c.Runs("web", 3)))
					})
					if !said {
						t.Error("no task says that it had to wait for its predecessor's end")
					}
				})
			})
		}
	}
}

func gaveWay(t *shoal.Task) bool {
	return strings.Contains(t.Status.Message, "stop-first for this task: ")
}

// TestADrainThatWaitsIsTakenBack: with a minimum that cannot be kept elsewhere the drain waits, as asked. Once the node is active again, nothing is left
// of the drain.
func TestADrainThatWaitsIsTakenBack(t *testing.T) {
	testcluster.Test(t, testcluster.Config{Managers: 1, Workers: 2}, func(_ *testing.T, c *testcluster.Cluster) {
		c.Service("web", 3, startFirst, hostPort, func(s *shoal.ServiceSpec) {
			s.Labels = map[string]string{shoal.LabelDrainMinAvailable: "3"}
		})
		all := map[string]int{"m1": 1, "w1": 1, "w2": 1}
		c.Eventually(c.RunsAt("web", all))
		c.SetAvailability("w1", shoal.AvailabilityDrain)
		time.Sleep(time.Minute)
		c.Eventually(c.RunsAt("web", all))
		c.SetAvailability("w1", shoal.AvailabilityActive)
		c.Within(10*time.Second, testcluster.All(c.RunsAt("web", all), c.Runs("web", 3)))
		c.UpdateService("web", func(s *shoal.ServiceSpec) { s.Task.Container.Image = "web:2" })
		c.Within(time.Minute, testcluster.All(updated(c, "web", "web:2"), c.Runs("web", 3)))
	})
}
