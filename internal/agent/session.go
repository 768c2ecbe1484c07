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

// openLimit bounds the wait for a manager's first word.
const openLimit = 2 * time.Second

// runSession holds one session from hello to its end. The error is a *redirected when the manager does not lead, and a
// *brokenError when the session had begun.
func (a *Agent) runSession(ctx context.Context, manager string) error {
	client, err := a.cfg.Dial(manager)
	if err != nil {
		return err
	}
	defer func() { _ = client.Close() }()
	life := ctx // tasks outlive the session that assigned them
	ctx, end := context.WithCancelCause(ctx)
	defer end(nil)
	silence := time.AfterFunc(openLimit, func() { end(errSilent) })
	defer silence.Stop()
	stream, first, err := a.open(ctx, client)
	if sent, ok := errors.AsType[*redirected](err); ok {
		return sent
	}
	if err != nil {
		return fmt.Errorf("open session with %s: %w", manager, causeOf(ctx, err))
	}
	heartbeat := first.Welcome.Heartbeat
	silence.Stop()
	a.welcome(first.Welcome)
	a.reportAll()
	a.setSession(client)
	defer a.setSession(nil)
	a.cfg.Log.Info("session with a manager", "manager", manager)

	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return a.send(ctx, stream, heartbeat/heartbeatsPerPeriod) })
	group.Go(func() error {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-a.reopen:
			end(errReopened) // the other two wait for the stream
			return errReopened
		}
	})
	group.Go(func() error {
		for msg := first; ; {
			if err := a.receive(life, ctx, client, msg); err != nil {
				return err
			}
			if msg.Welcome != nil && msg.Welcome.Heartbeat != heartbeat {
				return errNewHeartbeat
			}
			silence.Reset(heartbeat) // only the wait counts, not the work
			var err error
			if msg, err = stream.Recv(); err != nil {
				if errors.Is(err, io.EOF) {
					return errSessionEnded
				}
				return fmt.Errorf("receive from %s: %w", manager, causeOf(ctx, err))
			}
			silence.Stop()
		}
	})
	err = group.Wait()
	a.stopLogs("")
	return &brokenError{err}
}

// open says hello and waits for the answer.
func (a *Agent) open(ctx context.Context, client *rpc.Client) (rpc.SessionClient, *rpc.ManagerMessage, error) {
	stream, err := client.Session(ctx)
	if err != nil {
		return nil, nil, err
	}
	select {
	case <-a.reopen: // it does begin anew
	default:
	}
	hello := &rpc.Hello{Description: a.cfg.Describe(), DataAddr: a.cfg.DataAddr, ProbePort: a.cfg.ProbePort}
	if err := stream.Send(&rpc.AgentMessage{Hello: hello}); err != nil && !errors.Is(err, io.EOF) {
		return nil, nil, err // the reason of an EOF is what Recv gives
	}
	first, err := stream.Recv()
	switch {
	case err != nil:
		return nil, nil, err
	case first.Redirect != nil:
		return nil, nil, &redirected{first.Redirect.Leader}
	case first.Welcome == nil:
		return nil, nil, errNoWelcome
	}
	return stream, first, nil
}

// causeOf is why a context was cancelled, if that is what err tells of.
func causeOf(ctx context.Context, err error) error {
	if cause := context.Cause(ctx); cause != nil {
		return cause
	}
	return err
}

var (
	errNoWelcome    = errors.New("the manager has sent no welcome")
	errSilent       = errors.New("the manager is silent")
	errReopened     = errors.New("the node has news of itself")
	errNewHeartbeat = errors.New("the cluster has another heartbeat period now")
)

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
	a.cfg.Welcomed(*w)
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
	if msg.Open != "" {
		a.openTunnel(session, client, msg.Open)
	}
	return nil
}
