package dispatcher

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/shoal-dev/shoal/internal/rpc"
	"github.com/shoal-dev/shoal/internal/shoal"
)

// subscription is somebody's wish for the logs of some tasks.
type subscription struct {
	lines chan shoal.LogLine
	done  chan struct{} // closed when nobody reads lines any more

	mu      sync.Mutex        // guards waiting
	waiting map[shoal.ID]bool // nodes that have not finished
	ended   chan struct{}     // closed when no node is waited for
}

// Logs calls each for every line of the tasks' logs that the query asks for, until they end or ctx does. A node that cannot be asked
// gives one message with Err set.
func (d *Dispatcher) Logs(ctx context.Context, query shoal.LogQuery, each func(shoal.LogLine) error) error {
	view := d.cfg.Store.View()
	byNode := map[shoal.ID][]shoal.ID{}
	for _, id := range query.TaskIDs {
		if t := view.Task(id); t != nil && t.NodeID != "" {
			byNode[t.NodeID] = append(byNode[t.NodeID], id)
		}
	}
	req := rpc.LogRequest{ID: shoal.NewID(), Query: query}
	sub := &subscription{lines: make(chan shoal.LogLine), done: make(chan struct{}), waiting: map[shoal.ID]bool{}, ended: make(chan struct{})}
	missing := d.subscribe(req, sub, byNode)
	defer d.unsubscribe(req.ID, sub, byNode)
	for _, node := range missing {
		name := node
		if n := view.Node(node); n != nil {
			name = n.Description.Hostname
		}
		if err := each(shoal.LogLine{NodeID: node, Err: fmt.Sprintf("node %s is not available", name)}); err != nil {
			return err
		}
	}
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case m := <-sub.lines:
			if err := each(m); err != nil {
				return err
			}
		case <-sub.ended:
			return nil
		}
	}
}

// ReadLogs gives another manager what Logs finds.
func (d *Dispatcher) ReadLogs(req *rpc.LogRequest, stream rpc.LineServer) error {
	if caller := rpc.CallerOf(stream.Context()); caller.Role != shoal.RoleManager {
		return shoal.PermissionDenied("node %s is not a manager", caller.NodeID)
	}
	return d.Logs(stream.Context(), req.Query, func(line shoal.LogLine) error { return stream.Send(&line) })
}

// subscribe asks the nodes and gives those that cannot be asked.
func (d *Dispatcher) subscribe(req rpc.LogRequest, sub *subscription, byNode map[shoal.ID][]shoal.ID) (missing []shoal.ID) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.logs[req.ID] = sub
	for node, tasks := range byNode {
		s := d.sessions[node]
		if s == nil {
			missing = append(missing, node)
			continue
		}
		sub.waiting[node] = true
		r := req
		r.Query.TaskIDs = tasks
		s.asides = append(s.asides, rpc.ManagerMessage{Logs: &r})
		wake(s.wake)
	}
	if len(sub.waiting) == 0 {
		close(sub.ended)
	}
	return missing
}

func (d *Dispatcher) unsubscribe(id string, sub *subscription, byNode map[shoal.ID][]shoal.ID) {
	close(sub.done)
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.logs, id)
	for node := range byNode {
		if s := d.sessions[node]; s != nil {
			s.asides = append(s.asides, rpc.ManagerMessage{StopLogs: id})
			wake(s.wake)
		}
	}
}

// PublishLogs takes the lines of one node for one subscription.
func (d *Dispatcher) PublishLogs(stream rpc.LogServer) error {
	node := rpc.CallerOf(stream.Context()).NodeID
	first, err := stream.Recv()
	if err != nil {
		return err
	}
	d.mu.Lock()
	sub := d.logs[first.Subscription]
	d.mu.Unlock()
	if sub == nil {
		return stream.SendAndClose(&rpc.LogReply{}) // nobody waits for it any more
	}
	defer sub.finished(node)
	for {
		m, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return stream.SendAndClose(&rpc.LogReply{})
		}
		if err != nil {
			return err
		}
		if m.Line == nil {
			continue
		}
		m.Line.NodeID = node
		select {
		case sub.lines <- *m.Line:
		case <-sub.done:
			return stream.SendAndClose(&rpc.LogReply{})
		}
	}
}

func (s *subscription) finished(node shoal.ID) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.waiting[node] {
		return
	}
	delete(s.waiting, node)
	if len(s.waiting) == 0 {
		close(s.ended)
	}
}
