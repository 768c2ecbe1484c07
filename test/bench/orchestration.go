package bench

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"time"
)

// orchestration is what a cluster needs for work on many tasks.
type orchestration struct {
	up, upOverlay time.Duration // of one more task, when crowd come at once
	update        time.Duration // of ten tasks, five at a time
	replacement   time.Duration // from a task's death to the next one running, beyond the restart delay
}

const (
	crowd        = 30
	restartDelay = 100 * time.Millisecond
)

// orchestrate measures each once; the service is removed after it.
func (s swarm) orchestrate(ctx context.Context) (orchestration, error) {
	var o orchestration
	var network struct{ Id string } //nolint:revive // the API's name
	err := s[0].call(ctx, http.MethodPost, "/networks/create", map[string]any{"Name": "crowd", "Driver": "overlay"}, &network)
	if err != nil {
		return o, err
	}
	if o.up, err = s.scaleUp(ctx, ""); err != nil {
		return o, fmt.Errorf("scale up: %w", err)
	}
	if o.upOverlay, err = s.scaleUp(ctx, network.Id); err != nil {
		return o, fmt.Errorf("scale up on an overlay: %w", err)
	}
	if o.update, err = s.updateTen(ctx); err != nil {
		return o, fmt.Errorf("update: %w", err)
	}
	if o.replacement, err = s.replace(ctx); err != nil {
		return o, fmt.Errorf("replace: %w", err)
	}
	return o, s[0].call(ctx, http.MethodDelete, "/networks/"+network.Id, nil, nil)
}

func (s swarm) create(ctx context.Context, network string, replicas int) error {
	template := map[string]any{
		"ContainerSpec": map[string]any{"Image": "busybox:latest", "Command": []string{"sleep", "3600"}, "StopGracePeriod": 1},
		"RestartPolicy": map[string]any{"Delay": restartDelay},
	}
	if network != "" {
		template["Networks"] = []map[string]any{{"Target": network}}
	}
	in := map[string]any{
		"Name": "many", "TaskTemplate": template, "Mode": map[string]any{"Replicated": map[string]any{"Replicas": replicas}},
		"UpdateConfig": map[string]any{"Parallelism": 5, "Monitor": time.Nanosecond, "FailureAction": "pause", "Order": "stop-first"},
	}
	if err := s[0].call(ctx, http.MethodPost, "/services/create", in, nil); err != nil {
		return err
	}
	_, err := s.running(ctx, "many", replicas)
	return err
}

func (s swarm) scaleUp(ctx context.Context, network string) (time.Duration, error) {
	if err := s.create(ctx, network, 1); err != nil {
		return 0, err
	}
	began := time.Now()
	if err := s.scale(ctx, "many", 1+crowd); err != nil {
		return 0, err
	}
	if _, err := s.running(ctx, "many", 1+crowd); err != nil {
		return 0, err
	}
	return time.Since(began) / crowd, s.remove(ctx, "many")
}

func (s swarm) updateTen(ctx context.Context) (time.Duration, error) {
	const replicas = 10
	if err := s.create(ctx, "", replicas); err != nil {
		return 0, err
	}
	before, err := s.running(ctx, "many", replicas)
	if err != nil {
		return 0, err
	}
	began := time.Now()
	err = s.change(ctx, "many", func(spec map[string]any) {
		if template, ok := spec["TaskTemplate"].(map[string]any); ok {
			template["ForceUpdate"] = 1
		}
	})
	if err != nil {
		return 0, err
	}
	if err := s.without(ctx, before, replicas); err != nil {
		return 0, err
	}
	return time.Since(began), s.remove(ctx, "many")
}

// without waits until so many tasks run, none of which is one of those.
func (s swarm) without(ctx context.Context, those []task, replicas int) error {
	return until(ctx, func() (bool, error) {
		now, err := s.running(ctx, "many", replicas)
		return !slices.ContainsFunc(now, func(t task) bool {
			return slices.ContainsFunc(those, func(old task) bool { return old.ID == t.ID })
		}), err
	})
}

// replace kills the only task of a new service, several times: of one service, each would be restarted more slowly than the last.
func (s swarm) replace(ctx context.Context) (time.Duration, error) {
	const times = 5
	var took []time.Duration
	for range times {
		one, err := s.replaceOnce(ctx)
		if err != nil {
			return 0, err
		}
		took = append(took, one)
		if err := s.remove(ctx, "many"); err != nil {
			return 0, err
		}
	}
	return median(took), nil
}

func (s swarm) replaceOnce(ctx context.Context) (time.Duration, error) {
	if err := s.create(ctx, "", 1); err != nil {
		return 0, err
	}
	before, err := s.running(ctx, "many", 1)
	if err != nil {
		return 0, err
	}
	container := before[0].Status.ContainerStatus.ContainerID
	for _, e := range s {
		_ = e.call(ctx, http.MethodPost, "/containers/"+container+"/kill", nil, nil) // one of them has it
	}
	if err := s.without(ctx, before, 1); err != nil {
		return 0, err
	}
	after, err := s.running(ctx, "many", 1)
	if err != nil {
		return 0, err
	}
	dead, err := s.task(ctx, before[0].ID)
	if err != nil {
		return 0, err
	}
	return after[0].Status.Timestamp.Sub(dead.Status.Timestamp) - restartDelay, nil
}

func (s swarm) task(ctx context.Context, id string) (task, error) {
	var t task
	return t, s[0].call(ctx, http.MethodGet, "/tasks/"+id, nil, &t)
}
