package agent

import (
	"context"
	"sync"

	"github.com/shoal-dev/shoal/internal/fault"
	"github.com/shoal-dev/shoal/internal/rpc"
	"github.com/shoal-dev/shoal/internal/shoal"
)

// startLogs sends a manager the log lines that it asks for, until they end or it has enough.
func (a *Agent) startLogs(ctx context.Context, client *rpc.Client, req rpc.LogRequest) {
	ctx, cancel := context.WithCancel(ctx)
	a.mu.Lock()
	a.logs[req.ID] = cancel
	a.mu.Unlock()
	a.tasks.Go(func() {
		defer a.stopLogs(req.ID)
		err := fault.Contain(a.cfg.Log, "log lines for a manager", func() error { return a.publishLogs(ctx, client, req) })
		if err != nil && ctx.Err() == nil {
			a.cfg.Log.Warn("log lines cannot be sent to a manager; docker service logs shows them incomplete", "err", err)
		}
	})
}

// stopLogs ends one subscription, or all if id is empty.
func (a *Agent) stopLogs(id string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for key, cancel := range a.logs {
		if id == "" || id == key {
			cancel()
			delete(a.logs, key)
		}
	}
}

func (a *Agent) publishLogs(ctx context.Context, client *rpc.Client, req rpc.LogRequest) error {
	stream, err := client.PublishLogs(ctx)
	if err != nil {
		return err
	}
	var sending sync.Mutex // the tasks' lines share the stream
	send := func(line shoal.LogLine) error {
		sending.Lock()
		defer sending.Unlock()
		return stream.Send(&rpc.LogMessage{Subscription: req.ID, Line: &line})
	}
	if err := stream.Send(&rpc.LogMessage{Subscription: req.ID}); err != nil {
		return err
	}
	var tasks sync.WaitGroup
	for _, id := range req.Query.TaskIDs {
		tasks.Go(func() {
			err := fault.Contain(a.cfg.Log, "log lines of a task", func() error { return a.taskLogs(ctx, id, req.Query, send) })
			if err != nil && ctx.Err() == nil {
				_ = send(shoal.LogLine{TaskID: id, Err: err.Error()}) // if it cannot be sent, the stream itself has ended
			}
		})
	}
	tasks.Wait()
	_, err = stream.CloseAndRecv()
	return err
}

func (a *Agent) taskLogs(ctx context.Context, id shoal.TaskID, query shoal.LogQuery, send func(shoal.LogLine) error) error {
	a.mu.Lock()
	r, ok := a.runners[id]
	a.mu.Unlock()
	if !ok {
		return nil
	}
	container := r.containerID()
	if container == "" {
		return nil // not prepared yet, or never
	}
	return a.cfg.Runtime.Logs(ctx, container, query, func(line shoal.LogLine) error {
		line.TaskID = id
		return send(line)
	})
}

func (r *runner) containerID() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.found == nil {
		return ""
	}
	return r.found.ContainerID
}
