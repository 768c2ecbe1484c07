package container

import (
	"context"
	"fmt"
	"io"

	"github.com/containerd/containerd/v2/client"
	"github.com/containerd/errdefs"

	"github.com/shoal-dev/shoal/internal/logs"
	"github.com/shoal-dev/shoal/internal/runtime"
)

// AttachSpec says what a client attaches to. A nil stream is not attached.
type AttachSpec struct {
	Stdin          io.Reader
	Stdout, Stderr io.Writer
	// Logs replays what was printed so far.
	Logs bool
	// Stream stays until the container ends.
	Stream bool
}

// Attach connects a client to a container until the container ends or ctx is done; both return nil. The container need not run
// yet. ready must not be nil; it is called once the client receives all output from then on. Attaching to a paused container is
// a conflict.
func (e *Engine) Attach(ctx context.Context, ref string, a AttachSpec, ready func()) error {
	c, err := e.find(ref)
	if err != nil {
		return err
	}
	info, _ := c.snapshot()
	if info.State.Status == Paused {
		return errdefs.ErrConflict.WithMessage(fmt.Sprintf("container %s is paused, unpause the container before attach", info.ID))
	}
	done, detach := c.stdio.attach(a.Stdout, a.Stderr)
	defer detach()
	ready()
	if a.Logs {
		query := logs.Query{Tail: -1, Stdout: a.Stdout != nil, Stderr: a.Stderr != nil}
		err := c.log.Read(ctx, query, func(l logs.Line) error {
			to := a.Stdout
			if l.Stream == logs.Stderr {
				to = a.Stderr
			}
			_, err := io.WriteString(to, l.Text)
			return err
		})
		if err != nil {
			return err
		}
	}
	if !a.Stream {
		return nil
	}
	e.publish("attach", c, nil)
	if a.Stdin != nil && info.Spec.OpenStdin {
		in := c.stdio.stdinPipe()
		go func() {
			_, _ = io.Copy(in.w, a.Stdin)
			if info.Spec.StdinOnce {
				in.w.Close()
			}
		}()
	}
	select {
	case <-done:
	case <-ctx.Done():
	case <-e.closing:
	}
	return nil
}

// Logs calls each for the lines that q asks for; see logs.Log.Read.
func (e *Engine) Logs(ctx context.Context, ref string, q logs.Query, each func(logs.Line) error) error {
	c, err := e.find(ref)
	if err != nil {
		return err
	}
	return c.log.Read(ctx, q, each)
}

// Pids returns the IDs of a running container's processes in the host's PID namespace. A container that does not run is a conflict.
func (e *Engine) Pids(ctx context.Context, ref string) ([]int, error) {
	c, err := e.find(ref)
	if err != nil {
		return nil, err
	}
	info, task, _ := c.currentTask()
	if task == nil {
		return nil, notRunning(info)
	}
	list, err := task.Pids(runtime.WithNamespace(ctx))
	if err != nil {
		return nil, fmt.Errorf("list processes of %s: %w", info.ID, err)
	}
	pids := make([]int, 0, len(list))
	for _, p := range list {
		pids = append(pids, int(p.Pid))
	}
	return pids, nil
}

// Update changes a container's resource limits, and its restart policy unless restart is nil. For a running container the limits
// apply at once.
func (e *Engine) Update(ctx context.Context, ref string, r Resources, restart *Restart) error {
	c, err := e.find(ref)
	if err != nil {
		return err
	}
	c.op.Lock()
	defer c.op.Unlock()
	_, task, _ := c.currentTask()
	if task != nil {
		if err := task.Update(runtime.WithNamespace(ctx), client.WithResources(linuxResources(r))); err != nil {
			return fmt.Errorf("Cannot update container %s: %w", ref, err) //nolint:staticcheck // Docker's wording
		}
	}
	e.update(c, func(i *Info) {
		i.Spec.Resources = r
		if restart != nil {
			i.Spec.Restart = *restart
		}
	})
	e.publish("update", c, nil)
	return nil
}

// Usage is what a container uses now. Times are in nanoseconds, memory is in bytes; a limit of 0 means none.
type Usage struct {
	CPUNanos, CPUUserNanos, CPUSystemNanos uint64
	Memory, MemoryCache, MemoryLimit       uint64
	Pids, PidsLimit                        uint64
}

// Usage reads a running container's counters from its cgroup. Counters that the kernel does not offer are 0, and so are those of
// a container that does not run.
func (e *Engine) Usage(ref string) (Usage, error) {
	info, err := e.Inspect(ref)
	if err != nil {
		return Usage{}, err
	}
	g := e.cgroupPath(info)
	u := Usage{
		Memory:      readUint(cgroupFile(g, "memory", "memory.usage_in_bytes", "memory.current")),
		MemoryCache: readCounter(cgroupFile(g, "memory", "memory.stat", "memory.stat"), map[bool]string{true: "inactive_file", false: "total_inactive_file"}[cgroupV2()]),
		MemoryLimit: readUint(cgroupFile(g, "memory", "memory.limit_in_bytes", "memory.max")),
		Pids:        readUint(cgroupFile(g, "pids", "pids.current", "pids.current")),
		PidsLimit:   readUint(cgroupFile(g, "pids", "pids.max", "pids.max")),
	}
	if cgroupV2() {
		stat := cgroupFile(g, "", "", "cpu.stat")
		u.CPUNanos, u.CPUUserNanos, u.CPUSystemNanos = 1000*readCounter(stat, "usage_usec"), 1000*readCounter(stat, "user_usec"), 1000*readCounter(stat, "system_usec")
	} else {
		u.CPUNanos = readUint(cgroupFile(g, "cpuacct", "cpuacct.usage", ""))
		u.CPUUserNanos = readUint(cgroupFile(g, "cpuacct", "cpuacct.usage_user", ""))
		u.CPUSystemNanos = readUint(cgroupFile(g, "cpuacct", "cpuacct.usage_sys", ""))
	}
	return u, nil
}
