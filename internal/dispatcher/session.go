package dispatcher

import (
	"bytes"
	"context"
	"reflect"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/shoal-dev/shoal/internal/rpc"
	"github.com/shoal-dev/shoal/internal/shoal"
	"github.com/shoal-dev/shoal/internal/store"
)

// session is one agent's connection. The fields below sent are guarded by Dispatcher.mu; sent and version belong to the sender.
type session struct {
	d      *Dispatcher
	node   shoal.NodeID
	stream rpc.SessionServer
	wake   chan struct{}   // capacity 1
	gone   chan struct{}   // closed when another session takes its place
	turned <-chan struct{} // closed when this manager may lead no more

	sent       shoal.Table  // its maps are the session's own and change
	welcome    *rpc.Welcome // sent
	knownTasks map[shoal.TaskID]bool
	fullTasks  bool // sent

	tasks   map[shoal.TaskID]bool // changed since they were last sent
	touched touched               // what the table is made from and may have changed
	greet   bool                  // the welcome may have changed
	pulse   bool                  // the agent has spoken and waits for a sign of life
	drained []shoal.TaskID        // to be told
	told    map[shoal.TaskID]bool // drained tasks that it has been told of
	asides  []rpc.ManagerMessage  // requests that are no part of the state
	heard   time.Time
	// sentVersion is the newest table sent, applied the newest that the agent has applied, and settled the newest revision
	// that was found to need no table at all.
	sentVersion, applied, settled uint64
}

func newSession(d *Dispatcher, node shoal.NodeID, stream rpc.SessionServer, turned <-chan struct{}) *session {
	s := &session{
		d: d, node: node, stream: stream, turned: turned,
		wake: make(chan struct{}, 1), gone: make(chan struct{}),
		knownTasks: map[shoal.TaskID]bool{}, tasks: map[shoal.TaskID]bool{}, told: map[shoal.TaskID]bool{},
		touched: newTouched(), greet: true, heard: time.Now(),
	}
	s.touched.all = true
	wake(s.wake)
	return s
}

// replace ends the session; the caller holds Dispatcher.mu.
func (s *session) replace() {
	close(s.gone)
}

// run serves the session until it breaks, falls silent or is replaced.
func (s *session) run(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	received := make(chan *rpc.AgentMessage)
	// Receiving ends with the stream, which ends when this handler returns: it cannot be waited for.
	broken := make(chan error, 1)
	go func() {
		for {
			msg, err := s.stream.Recv()
			if err != nil {
				broken <- err
				return
			}
			select {
			case received <- msg:
			case <-ctx.Done():
				return
			}
		}
	}()
	group.Go(func() error { return s.listen(ctx, received, broken) })
	group.Go(func() error { return s.send(ctx) })
	return group.Wait()
}

func (s *session) listen(ctx context.Context, received <-chan *rpc.AgentMessage, broken <-chan error) error {
	for {
		silence := Silence(s.d.cfg.Store.View())
		timer := time.NewTimer(silence)
		select {
		case <-ctx.Done():
			timer.Stop()
			return ctx.Err()
		case <-s.gone:
			timer.Stop()
			return errReplaced
		case <-s.turned:
			timer.Stop()
			return errDeposed
		case err := <-broken:
			timer.Stop()
			return err
		case <-timer.C:
			return errSilent(s.node, silence)
		case msg := <-received:
			timer.Stop()
			s.take(msg)
		}
	}
}

// Silence is how long a node may say nothing before it counts as lost: half the cluster's heartbeat period.
func Silence(view store.View) time.Duration {
	if c := view.Cluster(); c != nil && c.Spec.HeartbeatPeriod > 0 {
		return c.Spec.HeartbeatPeriod / 2
	}
	return shoal.DefaultHeartbeatPeriod / 2
}

func (s *session) take(msg *rpc.AgentMessage) {
	d := s.d
	d.mu.Lock()
	defer d.mu.Unlock()
	s.heard = time.Now()
	s.pulse = true
	wake(s.wake)
	for _, r := range msg.Statuses {
		d.statuses[r.TaskID] = report{s.node, r.Status}
	}
	if len(msg.Statuses) > 0 {
		wake(d.wakeIntake)
	}
	if msg.Applied > s.applied {
		s.applied = msg.Applied
		d.checkDrainsLocked()
	}
}

// send tells the agent what has changed for it, whenever something has.
func (s *session) send(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-s.wake:
		}
		for _, msg := range s.outbox() {
			if err := s.stream.Send(msg); err != nil {
				return err
			}
		}
	}
}

// outbox builds what is to be said, from the newest view.
func (s *session) outbox() []*rpc.ManagerMessage {
	d := s.d
	d.mu.Lock()
	changed, touched, greet, pulse := s.tasks, s.touched, s.greet, s.pulse
	drained, asides := s.drained, s.asides
	s.tasks, s.touched, s.greet, s.pulse, s.drained, s.asides = map[shoal.TaskID]bool{}, newTouched(), false, false, nil, nil
	d.mu.Unlock()
	view := d.cfg.Store.View() // read after the marks were taken: it shows at least what they stand for

	msg := &rpc.ManagerMessage{Drained: drained}
	if greet {
		msg.Welcome = s.nextWelcome(view)
	}
	if !touched.empty() {
		msg.Table = s.nextTable(view, touched)
	}
	msg.Tasks = s.nextTasks(view, changed)
	var out []*rpc.ManagerMessage
	if pulse || msg.Welcome != nil || msg.Table != nil || msg.Tasks != nil || len(msg.Drained) > 0 {
		out = append(out, msg)
	}
	for i := range asides {
		out = append(out, &asides[i])
	}
	return out
}

// nextWelcome is what the node must know of the managers; nil if it knows it already.
func (s *session) nextWelcome(view store.View) *rpc.Welcome {
	now := &rpc.Welcome{Heartbeat: Silence(view), Managers: s.d.cfg.Managers(view), Role: roleOf(view, s.node)}
	now.Trust, now.Issuer = s.d.cfg.Trust(view)
	if reflect.DeepEqual(now, s.welcome) {
		return nil
	}
	s.welcome = now
	return now
}

// roleOf is what a node is meant to be. One that is to be a worker stays a manager until it has been taken out of the store's
// members: those may need its vote for just that.
func roleOf(view store.View, node shoal.NodeID) shoal.NodeRole {
	n := view.Node(node)
	switch {
	case n == nil:
		return shoal.RoleWorker
	case n.Manager != nil:
		return shoal.RoleManager
	}
	return n.Spec.Role
}

// nextTable is the delta from the table last sent; nil if there is none.
func (s *session) nextTable(view store.View, touched touched) *shoal.TableDelta {
	delta := tableDelta(&s.sent, view, s.node, touched)
	s.d.mu.Lock()
	defer s.d.mu.Unlock()
	if delta.Empty() && delta.DataPathPort == s.sent.DataPathPort && bytes.Equal(delta.TunnelSecret, s.sent.TunnelSecret) {
		s.settled = delta.Version
		s.d.checkDrainsLocked()
		return nil
	}
	delta.ApplyTo(&s.sent)
	s.sentVersion = delta.Version
	return &delta
}

// nextTasks is the node's tasks at first, then those that have changed.
func (s *session) nextTasks(view store.View, changed map[shoal.TaskID]bool) *rpc.Tasks {
	msg := &rpc.Tasks{Full: !s.fullTasks}
	if !s.fullTasks {
		s.fullTasks = true
		for _, t := range view.TasksOnNode(s.node) {
			changed[t.ID] = true
		}
	} else if len(changed) == 0 {
		return nil
	}
	refs := references{secrets: map[shoal.SecretID]bool{}, configs: map[shoal.ConfigID]bool{}}
	for id := range changed {
		t := view.Task(id)
		if t != nil && t.NodeID == s.node && t.Status.State >= shoal.TaskAssigned {
			msg.Put = append(msg.Put, *t)
			s.knownTasks[id] = true
			refs.add(t)
		} else if s.knownTasks[id] {
			s.d.mu.Lock()
			delete(s.told, id)
			s.d.mu.Unlock()
			msg.Removed = append(msg.Removed, id)
			delete(s.knownTasks, id)
		}
	}
	refs.fill(view, msg)
	if !msg.Full && len(msg.Put)+len(msg.Removed) == 0 {
		return nil
	}
	return msg
}

// references is the secrets and configs that tasks use.
type references struct {
	secrets map[shoal.SecretID]bool
	configs map[shoal.ConfigID]bool
}

func (r references) add(t *shoal.Task) {
	if t.Spec.Container == nil || t.Status.State.Ended() {
		return
	}
	for _, ref := range t.Spec.Container.Secrets {
		r.secrets[ref.ID] = true
	}
	for _, ref := range t.Spec.Container.Configs {
		r.configs[ref.ID] = true
	}
}

func (r references) fill(view store.View, msg *rpc.Tasks) {
	for id := range r.secrets {
		if secret := view.Secret(id); secret != nil {
			msg.Secrets = append(msg.Secrets, *secret)
		}
	}
	for id := range r.configs {
		if config := view.Config(id); config != nil {
			msg.Configs = append(msg.Configs, *config)
		}
	}
}
