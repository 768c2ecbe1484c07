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

// subscription is one request for the logs of tasks, which may be on several nodes.
type subscription struct {
	lines chan shoal.LogLine
	done  chan struct{} // closed when nobody reads lines any more

	mu        sync.Mutex            // guards waiting
	waiting   map[shoal.NodeID]bool // nodes that still send lines
	lostNodes chan shoal.NodeID     // nodes that will send no more although they have not finished; has room for all
	ended     chan struct{}         // closed when waiting is empty
}

// Logs calls each for every line of the tasks' logs that the query asks for, until they end or ctx does. A node that cannot be asked,
// or is lost before it has finished, gives one message with Err set.
func (d *Dispatcher) Logs(ctx context.Context, query shoal.LogQuery, each func(shoal.LogLine) error) error {
	view := d.cfg.Store.View()
	byNode := map[shoal.NodeID][]shoal.TaskID{}
	for _, id := range query.TaskIDs {
		if t := view.Task(id); t != nil && t.NodeID != "" {
			byNode[t.NodeID] = append(byNode[t.NodeID], id)
		}
	}
	req := rpc.LogRequest{ID: shoal.NewID[string](), Query: query}
	sub := &subscription{lines: make(chan shoal.LogLine), done: make(chan struct{}), waiting: map[shoal.NodeID]bool{},
		lostNodes: make(chan shoal.NodeID, len(byNode)), ended: make(chan struct{})}
	d.subscribe(req, sub, byNode)
	defer d.unsubscribe(req.ID, sub, byNode)
	missing := func(node shoal.NodeID) error {
		name := string(node)
		if n := view.Node(node); n != nil && n.Description.Hostname != "" {
			name = n.Description.Hostname
		}
		return each(shoal.LogLine{NodeID: node, Err: fmt.Sprintf("node %s is not available", name)})
	}
	for {
		var err error
		select {
		case <-ctx.Done():
			err = ctx.Err()
		case m := <-sub.lines:
			err = each(m)
		case node := <-sub.lostNodes:
			err = missing(node)
		case <-sub.ended:
			close(sub.lostNodes) // nobody is left to send to it
			for node := range sub.lostNodes {
				err = errors.Join(err, missing(node))
			}
			return err
		}
		if err != nil {
			return err
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

// subscribe asks the nodes for the lines of their tasks. Nodes without a session count as lost.
func (d *Dispatcher) subscribe(req rpc.LogRequest, sub *subscription, byNode map[shoal.NodeID][]shoal.TaskID) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.logs[req.ID] = sub
	for node, tasks := range byNode {
		s := d.sessions[node]
		if s == nil {
			sub.lostNodes <- node
			continue
		}
		sub.waiting[node] = true
		r := req
		r.Query.TaskIDs = tasks
		s.controlMessages = append(s.controlMessages, rpc.ManagerMessage{Logs: &r})
		wake(s.wake)
	}
	if len(sub.waiting) == 0 {
		close(sub.ended)
	}
}

func (d *Dispatcher) unsubscribe(id string, sub *subscription, byNode map[shoal.NodeID][]shoal.TaskID) {
	close(sub.done)
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.logs, id)
	for node := range byNode {
		if s := d.sessions[node]; s != nil {
			s.controlMessages = append(s.controlMessages, rpc.ManagerMessage{StopLogs: id})
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
	for {
		m, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			sub.finished(node)
			return stream.SendAndClose(&rpc.LogReply{})
		}
		if err != nil {
			sub.nodeLost(node)
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

// finished records that a node has sent all its lines.
func (s *subscription) finished(node shoal.NodeID) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.removeLocked(node)
}

// nodeLost records that a node will send no more lines although it has not finished.
func (s *subscription) nodeLost(node shoal.NodeID) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.waiting[node] {
		s.lostNodes <- node
		s.removeLocked(node)
	}
}

func (s *subscription) removeLocked(node shoal.NodeID) {
	if !s.waiting[node] {
		return
	}
	delete(s.waiting, node)
	if len(s.waiting) == 0 {
		close(s.ended)
	}
}
