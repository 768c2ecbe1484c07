package testcluster

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/containerd/errdefs"

	"github.com/shoal-dev/shoal/internal/agent"
	"github.com/shoal-dev/shoal/internal/shoal"
)

// Image is how containers of an image behave. The zero value is pulled and started at once and runs until it is stopped.
type Image struct {
	// Pull and Start are how long it takes to prepare and to start a container, Stop how long one takes to end when it is told to.
	Pull, Start, Stop time.Duration
	// Healthy is how long after its start a container is healthy.
	Healthy time.Duration
	// Runs is how long a container runs by itself; 0 is for ever. Exit is its exit code then.
	Runs time.Duration
	Exit int
	// Missing makes Prepare fail, as for an image that no registry has.
	Missing bool
	// Lines is what a container writes to its log when it starts.
	Lines []string
}

// Container is a container of a task on a machine.
type Container struct {
	ID      string
	TaskID  shoal.TaskID
	Image   string
	Secrets map[string]string // by file name
	Started time.Time         // zero until it has been started
	Running bool
	Exit    agent.Exit

	ended chan struct{}
	lines []shoal.LogLine
}

// Stop records that an agent has ended a running container.
type Stop struct {
	Machine string
	TaskID  shoal.TaskID
	At      time.Time
	// BalancedBy is the machines, up and connected to a manager, whose tables still had the task ready at that moment.
	BalancedBy []string
}

// containers are the containers of one machine. They survive the daemon, but not the machine.
type containers struct {
	machine *Machine

	mu  sync.Mutex // guards all below
	all map[string]*Container
}

// runtime is the agent.Runtime of one daemon over the machine's containers. Its calls have no effect once that daemon was killed.
type runtime struct {
	*containers
	dead <-chan struct{}
}

const (
	exitKilled     = 137
	exitTerminated = 143
)

// take waits for d; it fails if ctx ends or the daemon is killed first.
func (r *runtime) take(ctx context.Context, d time.Duration) error {
	r.machine.awake(ctx, r.dead)
	select { // a killed daemon does nothing, even if d is 0
	case <-r.dead:
		return errors.New("the daemon has been killed")
	default:
	}
	if d == 0 {
		return ctx.Err()
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-r.dead:
		return errors.New("the daemon has been killed")
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Tasks implements agent.Runtime.
func (r *runtime) Tasks(context.Context) ([]agent.TaskContainer, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	var found []agent.TaskContainer
	for _, c := range r.all {
		found = append(found, agent.TaskContainer{
			TaskID: c.TaskID, ContainerID: c.ID, Running: c.Running, Started: !c.Started.IsZero(), PID: 1, Exit: c.Exit,
		})
	}
	return found, nil
}

// Prepare implements agent.Runtime.
func (r *runtime) Prepare(ctx context.Context, task *shoal.Task, deps agent.Dependencies) (string, error) {
	image := r.machine.cluster.image(task)
	if err := r.take(ctx, image.Pull); err != nil {
		return "", err
	}
	if image.Missing {
		return "", fmt.Errorf("image %s: %w", task.Spec.Container.Image, errdefs.ErrNotFound)
	}
	c := &Container{
		ID: "container-" + string(task.ID), TaskID: task.ID, Image: task.Spec.Container.Image, Secrets: map[string]string{},
		ended: make(chan struct{}),
	}
	for _, ref := range task.Spec.Container.Secrets {
		secret, ok := deps.Secrets[ref.ID]
		if !ok {
			return "", fmt.Errorf("secret %s of the task is not there", ref.Name)
		}
		c.Secrets[ref.Target] = string(secret.DataOf(ref.Generation))
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.all[c.ID] = c
	return c.ID, nil
}

func (r *runtime) find(id string) (*Container, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	c := r.all[id]
	if c == nil {
		return nil, fmt.Errorf("container %s: %w", id, errdefs.ErrNotFound)
	}
	return c, nil
}

// Start implements agent.Runtime.
func (r *runtime) Start(ctx context.Context, id string) (int, error) {
	c, err := r.find(id)
	if err != nil {
		return 0, err
	}
	image := r.machine.cluster.imageNamed(c.Image)
	if err := r.take(ctx, image.Start); err != nil {
		return 0, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	c.Running, c.Started = true, time.Now()
	for _, line := range image.Lines {
		c.lines = append(c.lines, shoal.LogLine{Time: c.Started, Data: []byte(line + "\n")})
	}
	if image.Runs > 0 {
		time.AfterFunc(image.Runs, func() { r.end(c, image.Exit) })
	}
	return 1, nil
}

// end records that a container has ended.
func (cs *containers) end(c *Container, code int) {
	cs.mu.Lock()
	defer cs.mu.Unlock()
	cs.endLocked(c, code)
}

func (cs *containers) endLocked(c *Container, code int) {
	if c.Running {
		c.Running, c.Exit.Code = false, code
		close(c.ended)
	}
}

// losePower ends all containers.
func (cs *containers) losePower() {
	cs.mu.Lock()
	defer cs.mu.Unlock()
	for _, c := range cs.all {
		cs.endLocked(c, exitKilled)
	}
}

// clear removes all containers.
func (cs *containers) clear() {
	cs.mu.Lock()
	defer cs.mu.Unlock()
	clear(cs.all)
}

// Healthy implements agent.Runtime.
func (r *runtime) Healthy(ctx context.Context, id string, _ *shoal.Task) error {
	c, err := r.find(id)
	if err != nil {
		return err
	}
	timer := time.NewTimer(time.Until(c.Started.Add(r.machine.cluster.imageNamed(c.Image).Healthy)))
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-c.ended:
		return errors.New("container did not become healthy")
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Probe implements agent.Runtime: every running container is ready.
func (r *runtime) Probe(_ context.Context, id string, _ shoal.ReadyCheck) error {
	_, err := r.find(id)
	return err
}

// Wait implements agent.Runtime.
func (r *runtime) Wait(ctx context.Context, id string) (agent.Exit, error) {
	c, err := r.find(id)
	if err != nil {
		return agent.Exit{}, err
	}
	select {
	case <-c.ended:
		r.machine.awake(ctx, r.dead)
		r.mu.Lock()
		defer r.mu.Unlock()
		return c.Exit, nil
	case <-r.dead:
		<-ctx.Done() // a dead daemon learns of nothing
		return agent.Exit{}, ctx.Err()
	case <-ctx.Done():
		return agent.Exit{}, ctx.Err()
	}
}

// Stop implements agent.Runtime.
func (r *runtime) Stop(ctx context.Context, id string, _ *shoal.Task) error {
	c, err := r.find(id)
	if err != nil {
		return nil
	}
	if err := r.take(ctx, 0); err != nil {
		return err
	}
	r.mu.Lock()
	running := c.Running
	r.mu.Unlock()
	if !running {
		return nil
	}
	r.machine.cluster.stopped(r.machine, c.TaskID)
	if err := r.take(ctx, r.machine.cluster.imageNamed(c.Image).Stop); err != nil {
		return err
	}
	r.end(c, exitTerminated)
	return nil
}

// Remove implements agent.Runtime.
func (r *runtime) Remove(ctx context.Context, id string) error {
	if err := r.take(ctx, 0); err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if c := r.all[id]; c != nil {
		r.endLocked(c, exitKilled)
		delete(r.all, id)
	}
	return nil
}

// Logs implements agent.Runtime.
func (r *runtime) Logs(ctx context.Context, id string, query shoal.LogQuery, each func(shoal.LogLine) error) error {
	c, err := r.find(id)
	if err != nil {
		return err
	}
	r.mu.Lock()
	lines := c.lines
	r.mu.Unlock()
	if query.Tail >= 0 && len(lines) > query.Tail {
		lines = lines[len(lines)-query.Tail:]
	}
	for _, line := range lines {
		if err := each(line); err != nil {
			return err
		}
	}
	if !query.Follow {
		return nil
	}
	select {
	case <-c.ended:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
