package bench

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"time"
)

// task is what the API tells of one.
type task struct {
	ID     string
	Slot   int
	Status struct {
		State           string
		Timestamp       time.Time
		ContainerStatus struct{ ContainerID string }
	}
}

// running waits until so many tasks of a service run, and none other is left.
func (s swarm) running(ctx context.Context, service string, replicas int) ([]task, error) {
	var tasks []task
	filter := url.QueryEscape(fmt.Sprintf(`{"service":{%q:true}}`, service))
	err := until(ctx, func() (bool, error) {
		tasks = nil
		if err := s[0].call(ctx, http.MethodGet, "/tasks?filters="+filter, nil, &tasks); err != nil {
			return false, err
		}
		ended := []string{"complete", "shutdown", "failed", "rejected", "orphaned"}
		tasks = slices.DeleteFunc(tasks, func(t task) bool { return slices.Contains(ended, t.Status.State) })
		return len(tasks) == replicas && !slices.ContainsFunc(tasks, func(t task) bool { return t.Status.State != "running" }), nil
	})
	return tasks, err
}

// scale changes the number of a service's tasks.
func (s swarm) scale(ctx context.Context, service string, replicas int) error {
	return s.change(ctx, service, func(spec map[string]any) {
		spec["Mode"] = map[string]any{"Replicated": map[string]any{"Replicas": replicas}}
	})
}

// change updates a service.
func (s swarm) change(ctx context.Context, service string, how func(spec map[string]any)) error {
	var now struct {
		Version struct{ Index uint64 }
		Spec    map[string]any
	}
	if err := s[0].call(ctx, http.MethodGet, "/services/"+service, nil, &now); err != nil {
		return err
	}
	how(now.Spec)
	return s[0].call(ctx, http.MethodPost, fmt.Sprintf("/services/%s/update?version=%d", service, now.Version.Index), now.Spec, nil)
}
