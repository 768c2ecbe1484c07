package agent

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/shoal-dev/shoal/internal/fault"
	"github.com/shoal-dev/shoal/internal/rpc"
	"github.com/shoal-dev/shoal/internal/shoal"
)

// heartbeatsPerPeriod is how many messages an agent sends, at least, within the manager's heartbeat timeout.
const heartbeatsPerPeriod = 5

// handshakeTimeout bounds the wait for a manager's first message.
const handshakeTimeout = 2 * time.Second

// runSession holds one session from hello to its end. The error is a *redirectError when the manager does not lead, and an
// *endedError when the session had begun.
func (a *Agent) runSession(ctx context.Context, manager string, connectTimeout time.Duration) error {
	client, err := a.cfg.Dial(manager)
	if err != nil {
		return err
	}
	defer func() { _ = client.Close() }()
	daemonCtx := ctx // tasks outlive the session that assigned them
	ctx, end := context.WithCancelCause(ctx)
	defer end(nil)
	silenceTimer := time.AfterFunc(connectTimeout, func() { end(errSilent) })
	defer silenceTimer.Stop()
	stream, first, err := a.open(ctx, client, func() { silenceTimer.Reset(max(handshakeTimeout, connectTimeout)) })
	if redirect, ok := errors.AsType[*redirectError](err); ok {
		return redirect
	}
	if err != nil {
		return fmt.Errorf("open session with %s: %w", manager, causeOf(ctx, err))
	}
	heartbeat := first.Welcome.Heartbeat
	silenceTimer.Stop()
	a.welcome(first.Welcome)
	a.reportAll()
	defer a.setSession(nil)
	a.cfg.Log.Info("session with a manager", "manager", manager)

	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error {
		return fault.Contain(a.cfg.Log, "session with a manager", func() error { return a.send(ctx, stream, heartbeat/heartbeatsPerPeriod) })
	})
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
			err := fault.Contain(a.cfg.Log, "message of a manager", func() error { return a.receive(daemonCtx, ctx, client, msg) })
			if err != nil {
				return err
			}
			if msg.Welcome != nil && msg.Welcome.Heartbeat != heartbeat {
				return errNewHeartbeat
			}
			silenceTimer.Reset(heartbeat) // counts the time waiting for a message, not the time spent handling one
			if msg, err = stream.Recv(); err != nil {
				if errors.Is(err, io.EOF) {
					return errSessionEnded
				}
				return fmt.Errorf("receive from %s: %w", manager, causeOf(ctx, err))
			}
			silenceTimer.Stop()
		}
	})
	err = group.Wait()
	a.stopLogs("")
	return &endedError{err}
}

// open connects, says hello and waits for the answer.
func (a *Agent) open(ctx context.Context, client *rpc.Client, connected func()) (rpc.SessionClient, *rpc.ManagerMessage, error) {
	stream, err := client.Session(ctx)
	if err != nil {
		return nil, nil, err
	}
	connected()
	select {
	case <-a.reopen: // this session is new already
	default:
	}
	hello := &rpc.Hello{Description: a.cfg.Describe(), DataAddr: a.cfg.DataAddr, ProbePort: a.cfg.ProbePort}
	if err := stream.Send(&rpc.AgentMessage{Hello: hello}); err != nil && !errors.Is(err, io.EOF) {
		return nil, nil, err // after io.EOF, Recv returns the stream's real error
	}
	first, err := stream.Recv()
	switch {
	case err != nil:
		return nil, nil, err
	case first.Redirect != nil:
		return nil, nil, &redirectError{first.Redirect.Leader}
	case first.Welcome == nil:
		return nil, nil, errNoWelcome
	}
	return stream, first, nil
}

// causeOf is why ctx was cancelled; err if it was not.
func causeOf(ctx context.Context, err error) error {
	if cause := context.Cause(ctx); cause != nil {
		return cause
	}
	return err
}

var (
	errNoWelcome    = errors.New("the manager has sent no welcome")
	errSilent       = errors.New("the manager does not answer")
	errReopened     = errors.New("the node's description has changed")
	errNewHeartbeat = errors.New("the cluster's heartbeat period has changed")
)

// reportAll queues the status of every task, because the manager of a new session may have missed earlier reports.
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

// outbox builds the next message from everything queued; with nothing queued it is a heartbeat.
func (a *Agent) outbox() *rpc.AgentMessage {
	a.mu.Lock()
	defer a.mu.Unlock()
	msg := &rpc.AgentMessage{}
	switch {
	case a.applied == nil:
	case len(a.applied.Lagging) > 0:
		msg.AppliedPartly = a.applied
	default:
		msg.Applied = a.applied.Version
	}
	for id, status := range a.reports {
		msg.Statuses = append(msg.Statuses, rpc.StatusReport{TaskID: id, Status: status})
	}
	clear(a.reports)
	a.applied = nil
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

func (a *Agent) receive(daemonCtx, session context.Context, client *rpc.Client, msg *rpc.ManagerMessage) error {
	if msg.Welcome != nil {
		a.welcome(msg.Welcome)
	}
	if msg.Table != nil {
		a.setTable(msg.Table)
	}
	if msg.Tasks != nil {
		if msg.Tasks.Full {
			a.setSession(client) // the managers have the node as Ready before they send it its tasks
		}
		if err := a.assign(daemonCtx, msg.Tasks); err != nil {
			return err
		}
	}
	if len(msg.Drained) > 0 {
		a.handleDrained(msg.Drained)
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
