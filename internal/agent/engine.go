package agent

import (
	"context"
	"errors"
	"strconv"
	"strings"

	"github.com/containerd/errdefs"

	"github.com/shoal-dev/shoal/internal/container"
	"github.com/shoal-dev/shoal/internal/image"
	"github.com/shoal-dev/shoal/internal/logs"
	"github.com/shoal-dev/shoal/internal/registry"
	"github.com/shoal-dev/shoal/internal/shoal"
)

// Labels of a task's container, as Docker sets them.
const (
	labelNodeID      = "com.docker.swarm.node.id"
	labelServiceID   = "com.docker.swarm.service.id"
	labelServiceName = "com.docker.swarm.service.name"
	labelTask        = "com.docker.swarm.task"
	labelTaskID      = "com.docker.swarm.task.id"
	labelTaskName    = "com.docker.swarm.task.name"
)

// Engine runs tasks on the node's containers.
type Engine struct {
	Containers *container.Engine
	Images     *image.Store
	Node       NodeFacts
}

// NodeFacts is what templates may ask of the node.
type NodeFacts struct {
	ID       shoal.NodeID
	Hostname string
	Platform shoal.Platform
}

// Tasks implements Runtime.
func (e *Engine) Tasks(context.Context) ([]TaskContainer, error) {
	var found []TaskContainer
	for _, info := range e.Containers.List(map[string]string{labelTaskID: ""}) {
		s := info.State
		found = append(found, TaskContainer{
			TaskID: shoal.TaskID(info.Labels[labelTaskID]), ContainerID: info.ID, PID: s.PID,
			Running: s.Status == container.Running || s.Status == container.Paused,
			Started: !s.StartedAt.IsZero(),
			Exit:    Exit{Code: s.ExitCode, OOMKilled: s.OOMKilled, Err: s.Error},
		})
	}
	return found, nil
}

// Prepare implements Runtime.
func (e *Engine) Prepare(ctx context.Context, task *shoal.Task, deps Dependencies) (string, error) {
	spec, err := e.spec(task, deps)
	if err != nil {
		return "", err
	}
	auth, err := registry.ParseAuth(task.Spec.RegistryAuth)
	if err != nil {
		return "", err
	}
	if _, err := e.Images.Ensure(ctx, spec.Image, auth); err != nil {
		return "", err
	}
	id, err := e.Containers.Create(ctx, task.Name(), spec)
	if errdefs.IsConflict(err) || errdefs.IsAlreadyExists(err) {
		// Left by an earlier try of this very task: names hold its ID.
		if err := e.Containers.Remove(ctx, task.Name(), true, true); err != nil {
			return "", err
		}
		id, err = e.Containers.Create(ctx, task.Name(), spec)
	}
	return id, err
}

// Start implements Runtime.
func (e *Engine) Start(ctx context.Context, id string) (int, error) {
	if err := e.Containers.Start(ctx, id); err != nil {
		return 0, err
	}
	info, err := e.Containers.Inspect(id)
	return info.State.PID, err
}

// watch calls look with the container's state at every change, until it is satisfied.
func (e *Engine) watch(ctx context.Context, id string, look func(container.State) (done bool)) error {
	for {
		info, changed, err := e.Containers.Watch(id)
		if err != nil {
			return err
		}
		if look(info.State) {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-changed:
		}
	}
}

func ended(s container.State) bool { return s.Status == container.Exited || s.Status == container.Dead }

func unhealthy(s container.State) bool {
	return s.Health != nil && s.Health.Status == container.Unhealthy
}

// errNotHealthy says that a container ended, or failed its checks, before it was healthy.
var errNotHealthy = errors.New("container did not become healthy")

// Healthy implements Runtime.
func (e *Engine) Healthy(ctx context.Context, id string, task *shoal.Task) error {
	healthy, pid := false, 0
	err := e.watch(ctx, id, func(s container.State) bool {
		healthy, pid = !ended(s) && (s.Health == nil || s.Health.Status == container.Healthy), s.PID
		return healthy || ended(s) || unhealthy(s)
	})
	if err == nil && !healthy {
		return errNotHealthy
	}
	if err == nil {
		if !awaitListeners(ctx, pid, task, e.exposedTCP(ctx, task)) && ctx.Err() == nil {
			e.Containers.Log.Warn("task does not listen on its ports yet and counts as running all the same; connections to it are refused until it does", "task", task.ID, "waited", listenTimeout)
		}
	}
	return err
}

// exposedTCP is the TCP ports that the task's image says it serves.
func (e *Engine) exposedTCP(ctx context.Context, task *shoal.Task) []uint16 {
	img, err := e.Images.Get(ctx, task.Spec.Container.Image)
	if err != nil {
		return nil // removed since the start: nothing to wait for
	}
	var ports []uint16
	for text := range img.Spec.Config.ExposedPorts {
		number, protocol, _ := strings.Cut(text, "/")
		if n, err := strconv.ParseUint(number, 10, 16); err == nil && (protocol == "" || protocol == "tcp") {
			ports = append(ports, uint16(n))
		}
	}
	return ports
}

// Wait implements Runtime.
func (e *Engine) Wait(ctx context.Context, id string) (Exit, error) {
	var exit Exit
	err := e.watch(ctx, id, func(s container.State) bool {
		exit = Exit{Code: s.ExitCode, Unhealthy: !ended(s) && unhealthy(s), OOMKilled: s.OOMKilled, Err: s.Error}
		return ended(s) || exit.Unhealthy
	})
	return exit, err
}

// Stop implements Runtime.
func (e *Engine) Stop(ctx context.Context, id string, task *shoal.Task) error {
	grace := shoal.DefaultStopGracePeriod
	if c := task.Spec.Container; c != nil && c.StopGracePeriod != nil {
		grace = *c.StopGracePeriod
	}
	err := e.Containers.Stop(ctx, id, grace)
	if errdefs.IsNotFound(err) || errdefs.IsNotModified(err) {
		return nil
	}
	return err
}

// Remove implements Runtime.
func (e *Engine) Remove(ctx context.Context, id string) error {
	err := e.Containers.Remove(ctx, id, true, true)
	if errdefs.IsNotFound(err) {
		return nil
	}
	return err
}

// Logs implements Runtime.
func (e *Engine) Logs(ctx context.Context, id string, q shoal.LogQuery, each func(shoal.LogLine) error) error {
	query := logs.Query{Since: q.Since, Tail: q.Tail, Follow: q.Follow, Stdout: q.Stdout, Stderr: q.Stderr}
	return e.Containers.Logs(ctx, id, query, func(l logs.Line) error {
		return each(shoal.LogLine{Time: l.Time, Stderr: l.Stream == logs.Stderr, Data: []byte(l.Text), Attrs: l.Attrs})
	})
}
