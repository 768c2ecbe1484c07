package dispatcher

import (
	"bytes"
	"context"
	"reflect"
	"time"

	"github.com/shoal-dev/shoal/internal/fault"
	"github.com/shoal-dev/shoal/internal/rpc"
	"github.com/shoal-dev/shoal/internal/shoal"
	"github.com/shoal-dev/shoal/internal/store"
)

// session is one agent's connection. Fields from dirtyTasks on are guarded by Dispatcher.mu. Those from sent to fullTasks belong to
// the goroutine that sends.
type session struct {
	d                 *Dispatcher
	node              shoal.NodeID
	stream            rpc.SessionServer
	wake              chan struct{}   // capacity 1
	replaced          chan struct{}   // closed when another session takes its place
	leadershipChanged <-chan struct{} // closed when this manager may lead no more

	sent      shoal.Table           // the table as the agent has it; its maps are the session's own
	welcome   *rpc.Welcome          // the last one sent; nil before the first
	sentTasks map[shoal.TaskID]bool // tasks that the agent knows
	fullTasks bool                  // whether the full list of tasks has been sent

	dirtyTasks      map[shoal.TaskID]bool // tasks of the node that have changed since they were last sent
	dirty           dirtySet              // what may have changed of the node's table since it was last sent
	welcomeDirty    bool                  // what the last welcome said may have changed
	heartbeatDue    bool                  // the agent has sent a message and expects an answer, even an empty one
	drained         []shoal.TaskID        // drained tasks that the agent has yet to be told of
	announced       map[shoal.TaskID]bool // drained tasks that the agent has been told of, or will be with drained
	controlMessages []rpc.ManagerMessage  // requests for logs and tunnels, to be sent once
	lastHeard       time.Time             // when the last message of the agent arrived
	introduced      bool                  // the store says that the node is Ready; until then the agent is only welcomed and answered
	// sentVersion is the version of the newest table sent. Up to the revision unaffectedUpTo nothing has changed for the node since.
	sentVersion, unaffectedUpTo uint64
	applied                     kernelState // by the tables that the agent has acknowledged
}

func newSession(d *Dispatcher, node shoal.NodeID, stream rpc.SessionServer, leadershipChanged <-chan struct{}) *session {
	s := &session{
		d: d, node: node, stream: stream, leadershipChanged: leadershipChanged,
		wake: make(chan struct{}, 1), replaced: make(chan struct{}),
		sentTasks: map[shoal.TaskID]bool{}, dirtyTasks: map[shoal.TaskID]bool{}, announced: map[shoal.TaskID]bool{},
		dirty: newDirtySet(), welcomeDirty: true, lastHeard: time.Now(),
	}
	s.dirty.all = true
	wake(s.wake)
	return s
}

// replace ends the session; the caller holds Dispatcher.mu.
func (s *session) replace() {
	close(s.replaced)
}

// run serves the session until it breaks, falls silent or is replaced, or introduced brings an error. It does not wait for a message that is being sent: that may
// take for ever if the agent is cut off, and ends when the stream's handler has returned.
func (s *session) run(ctx context.Context, introduced <-chan error) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	received := make(chan *rpc.AgentMessage)
	// Receiving ends with the stream, which ends when this handler returns: it cannot be waited for.
	broken := make(chan error, 2)
	go func() {
		err := fault.Contain(s.d.cfg.Log, "messages of a node", func() error {
			for {
				msg, err := s.stream.Recv()
				if err != nil {
					return err
				}
				select {
				case received <- msg:
				case <-ctx.Done():
					return ctx.Err()
				}
			}
		})
		broken <- err
	}()
	go func() {
		broken <- fault.Contain(s.d.cfg.Log, "messages to a node", func() error { return s.send(ctx) })
	}()
	return s.receive(ctx, received, broken, introduced)
}

func (s *session) receive(ctx context.Context, received <-chan *rpc.AgentMessage, broken, introduced <-chan error) error {
	for {
		silence := HeartbeatTimeout(s.d.cfg.Store.View())
		timer := time.NewTimer(silence)
		select {
		case <-ctx.Done():
			timer.Stop()
			return ctx.Err()
		case <-s.replaced:
			timer.Stop()
			return errReplaced
		case <-s.leadershipChanged:
			timer.Stop()
			return errDeposed
		case err := <-broken:
			timer.Stop()
			return err
		case err := <-introduced:
			timer.Stop()
			if err != nil {
				return err
			}
			introduced = nil
			s.d.mu.Lock()
			s.introduced = true
			wake(s.wake)
			s.d.mu.Unlock()
		case <-timer.C:
			return errSilent(s.node, silence)
		case msg := <-received:
			timer.Stop()
			s.handle(msg)
		}
	}
}

// HeartbeatTimeout is how long a node may say nothing before it counts as lost: half the cluster's heartbeat period.
func HeartbeatTimeout(view store.View) time.Duration {
	if c := view.Cluster(); c != nil && c.Spec.HeartbeatPeriod > 0 {
		return c.Spec.HeartbeatPeriod / 2
	}
	return shoal.DefaultHeartbeatPeriod / 2
}

func (s *session) handle(msg *rpc.AgentMessage) {
	d := s.d
	d.mu.Lock()
	defer d.mu.Unlock()
	s.lastHeard = time.Now()
	s.heartbeatDue = true
	wake(s.wake)
	for _, r := range msg.Statuses {
		d.statuses[r.TaskID] = report{s.node, r.Status}
	}
	if len(msg.Statuses) > 0 {
		wake(d.wakeStatusWriter)
	}
	switch {
	case msg.Applied > 0:
		s.acknowledgeLocked(msg.Applied, nil)
	case msg.AppliedPartly != nil:
		s.acknowledgeLocked(msg.AppliedPartly.Version, msg.AppliedPartly.Lagging)
	}
}

// send sends the agent whatever has changed for its node, each time the session is woken.
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

// outbox builds the messages that are due, from the newest view, and clears the marks they were due for.
func (s *session) outbox() []*rpc.ManagerMessage {
	d := s.d
	d.mu.Lock()
	if !s.introduced {
		defer d.mu.Unlock()
		return s.greetingLocked()
	}
	changed, dirty, welcomeDirty, heartbeatDue := s.dirtyTasks, s.dirty, s.welcomeDirty, s.heartbeatDue
	drained, controlMessages := s.drained, s.controlMessages
	s.dirtyTasks, s.dirty, s.welcomeDirty, s.heartbeatDue, s.drained, s.controlMessages = map[shoal.TaskID]bool{}, newDirtySet(), false, false, nil, nil
	d.mu.Unlock()
	view := d.cfg.Store.View() // read after the marks were cleared, so that it shows every change they stand for

	msg := &rpc.ManagerMessage{Drained: drained}
	if welcomeDirty {
		msg.Welcome = s.nextWelcome(view)
	}
	if !dirty.empty() {
		msg.Table = s.nextTable(view, dirty)
	}
	msg.Tasks = s.nextTasks(view, changed)
	var out []*rpc.ManagerMessage
	if heartbeatDue || msg.Welcome != nil || msg.Table != nil || msg.Tasks != nil || len(msg.Drained) > 0 {
		out = append(out, msg)
	}
	for i := range controlMessages {
		out = append(out, &controlMessages[i])
	}
	return out
}

// greetingLocked is the messages that are due to an agent whose node is not recorded as Ready yet.
func (s *session) greetingLocked() []*rpc.ManagerMessage {
	if !s.welcomeDirty && !s.heartbeatDue {
		return nil
	}
	msg := &rpc.ManagerMessage{}
	if s.welcomeDirty {
		msg.Welcome = s.nextWelcome(s.d.cfg.Store.View())
	}
	s.welcomeDirty, s.heartbeatDue = false, false
	return []*rpc.ManagerMessage{msg}
}

// nextWelcome is the welcome message to send; nil if the last one still holds.
func (s *session) nextWelcome(view store.View) *rpc.Welcome {
	now := &rpc.Welcome{Heartbeat: HeartbeatTimeout(view), Managers: s.d.cfg.Managers(view), Role: roleOf(view, s.node)}
	now.Trust, now.Issuer = s.d.cfg.Trust(view)
	if reflect.DeepEqual(now, s.welcome) {
		return nil
	}
	s.welcome = now
	return now
}

// roleOf is the role that the node is to take now. A manager that is demoted stays one until the store's members have removed
// it: they may need its vote to do so.
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

// nextTable is the delta from the table last sent; nil if nothing has changed for the node.
func (s *session) nextTable(view store.View, dirty dirtySet) *shoal.TableDelta {
	delta := tableDelta(&s.sent, view, s.node, dirty)
	s.d.mu.Lock()
	defer s.d.mu.Unlock()
	if delta.Empty() && delta.DataPathPort == s.sent.DataPathPort && bytes.Equal(delta.TunnelSecret, s.sent.TunnelSecret) {
		s.unaffectedUpTo = delta.Version
		s.d.finishDrainsLocked(view)
		return nil
	}
	delta.ApplyTo(&s.sent)
	s.sentVersion = delta.Version
	return &delta
}

// nextTasks is the assignments to send: all of them at first, then those that have changed; nil if there are none.
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
		if t != nil && t.NodeID == s.node && t.Status.State >= shoal.TaskAssigned && t.HeldUntil.IsZero() {
			msg.Put = append(msg.Put, *t)
			s.sentTasks[id] = true
			refs.add(t)
		} else if s.sentTasks[id] {
			s.d.mu.Lock()
			delete(s.announced, id)
			s.d.mu.Unlock()
			msg.Removed = append(msg.Removed, id)
			delete(s.sentTasks, id)
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
