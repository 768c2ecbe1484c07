package agent

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/shoal-dev/shoal/internal/rpc"
	"github.com/shoal-dev/shoal/internal/shoal"
)

// heartbeatsPerPeriod is how often an agent speaks up within the silence that its manager bears.
const heartbeatsPerPeriod = 5

// runSession holds one session from hello to its end. welcomed tells whether the manager accepted it.
func (a *Agent) runSession(ctx context.Context, manager string) (welcomed bool, err error) {
	client, err := a.cfg.Dial(manager)
	if err != nil {
		return false, err
	}
	defer func() { _ = client.Close() }()
	life := ctx // tasks outlive the session that assigned them
	group, ctx := errgroup.WithContext(ctx)
	stream, err := client.Session(ctx)
	if err != nil {
		return false, fmt.Errorf("open session with %s: %w", manager, err)
	}
	hello := &rpc.Hello{Description: a.cfg.Describe(), DataAddr: a.cfg.DataAddr, ProbePort: a.cfg.ProbePort}
	if err := stream.Send(&rpc.AgentMessage{Hello: hello}); err != nil {
		return false, fmt.Errorf("open session with %s: %w", manager, err)
	}
	first, err := stream.Recv()
	if err != nil {
		return false, fmt.Errorf("open session with %s: %w", manager, err)
	}
	if first.Welcome == nil {
		return false, fmt.Errorf("open session with %s: no welcome", manager)
	}
	a.welcome(first.Welcome)
	a.reportAll()
	a.setSession(client)
	defer a.setSession(nil)
	a.cfg.Log.Info("session with a manager", "manager", manager)

	group.Go(func() error { return a.send(ctx, stream, first.Welcome.Heartbeat/heartbeatsPerPeriod) })
	group.Go(func() error {
		for msg := first; ; {
			if err := a.receive(life, ctx, client, msg); err != nil {
				return err
			}
			var err error
			if msg, err = stream.Recv(); err != nil {
				if errors.Is(err, io.EOF) {
					return errSessionEnded
				}
				return fmt.Errorf("receive from %s: %w", manager, err)
			}
		}
	})
	err = group.Wait()
	a.stopLogs("")
	return true, err
}

// reportAll queues what is known of every task: the manager of a new session may have missed any of it.
func (a *Agent) reportAll() {
	a.mu.Lock()
	defer a.mu.Unlock()
	for id, r := range a.runners {
		if status := r.lastStatus(); status.State > shoal.TaskAssigned {
			a.reports[id] = status
		}
	}
	wake(a.wakeSend)
}

func (a *Agent) send(ctx context.Context, stream rpc.SessionClient, heartbeat time.Duration) error {
	ticker := time.NewTicker(heartbeat)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-a.wakeSend:
		case <-ticker.C:
		}
		if err := stream.Send(a.outbox()); err != nil {
			return fmt.Errorf("send to manager: %w", err)
		}
	}
}

// outbox takes all that waits to be said.
func (a *Agent) outbox() *rpc.AgentMessage {
	a.mu.Lock()
	defer a.mu.Unlock()
	msg := &rpc.AgentMessage{Applied: a.applied}
	for id, status := range a.reports {
		msg.Statuses = append(msg.Statuses, rpc.StatusReport{TaskID: id, Status: status})
	}
	clear(a.reports)
	a.applied = 0
	return msg
}

func (a *Agent) welcome(w *rpc.Welcome) {
	if len(w.Managers) > 0 {
		a.mu.Lock()
		a.managers = w.Managers
		a.mu.Unlock()
	}
	a.cfg.Welcomed(w.Managers, w.Role)
}

func (a *Agent) receive(life, session context.Context, client *rpc.Client, msg *rpc.ManagerMessage) error {
	if msg.Welcome != nil {
		a.welcome(msg.Welcome)
	}
	if msg.Table != nil {
		a.setTable(msg.Table)
	}
	if msg.Tasks != nil {
		if err := a.assign(life, msg.Tasks); err != nil {
			return err
		}
	}
	if len(msg.Drained) > 0 {
		a.drained(msg.Drained)
	}
	if msg.Logs != nil {
		a.startLogs(session, client, *msg.Logs)
	}
	if msg.StopLogs != "" {
		a.stopLogs(msg.StopLogs)
	}
	return nil
}
