// Package orchestrator turns services into tasks: it creates, replaces, shuts down and forgets tasks until the cluster has
// those that its services want. It reads services, tasks, nodes and the cluster's settings; it writes the existence and
// DesiredState of tasks, Service.UpdateStatus and Service.JobStatus, and the Spec of a service that it rolls back.
package orchestrator

import (
	"cmp"
	"reflect"
	"slices"
	"time"

	"github.com/shoal-dev/shoal/internal/reconcile"
	"github.com/shoal-dev/shoal/internal/shoal"
	"github.com/shoal-dev/shoal/internal/store"
)

// Config is what an Orchestrator is made of.
type Config struct {
	// NewID names new tasks; shoal.NewID if nil.
	NewID func() shoal.TaskID
}

// Orchestrator is the controller whose keys are services.
type Orchestrator struct{ newID func() shoal.TaskID }

// New makes an orchestrator.
func New(cfg Config) *Orchestrator {
	if cfg.NewID == nil {
		cfg.NewID = shoal.NewID
	}
	return &Orchestrator{cfg.NewID}
}

// Name implements reconcile.Controller.
func (o *Orchestrator) Name() string { return "orchestrator" }

// All implements reconcile.Controller: every service, and those that have left tasks behind.
func (o *Orchestrator) All(v store.View) []reconcile.Key {
	var keys []reconcile.Key
	for _, s := range v.Services() {
		keys = append(keys, reconcile.Key(s.ID))
	}
	for _, t := range v.Tasks() {
		if v.Service(t.ServiceID) == nil {
			keys = append(keys, reconcile.Key(t.ServiceID))
		}
	}
	return keys
}

// Concerned implements reconcile.Controller.
func (o *Orchestrator) Concerned(v store.View, c store.Change) []reconcile.Key {
	switch c.Kind {
	case store.KindService:
		keys := []reconcile.Key{reconcile.Key(c.ID)}
		for _, s := range v.DependentServices() {
			keys = append(keys, reconcile.Key(s.ID))
		}
		return keys
	case store.KindTask:
		return taskConcerns(v, c)
	case store.KindNode:
		if c.Old != nil && c.New != nil && sameForTasks(c.Old.(*shoal.Node), c.New.(*shoal.Node)) {
			return nil
		}
		return nodeConcerns(v, shoal.NodeID(c.ID))
	default:
		return nil
	}
}

// nodeConcerns is the services with tasks on a node, those that want one on every node, and those that move tasks to emptier nodes.
func nodeConcerns(v store.View, node shoal.NodeID) []reconcile.Key {
	var keys []reconcile.Key
	for _, t := range v.TasksOnNode(node) {
		keys = append(keys, reconcile.Key(t.ServiceID))
	}
	for _, s := range v.Services() {
		if s.Spec.Mode.IsGlobal() || rebalances(s) {
			keys = append(keys, reconcile.Key(s.ID))
		}
	}
	return keys
}

// taskConcerns leaves out what others did to a task on its way to a node.
func taskConcerns(v store.View, c store.Change) []reconcile.Key {
	if c.Old != nil && c.New != nil {
		was, is := c.Old.(*shoal.Task), c.New.(*shoal.Task)
		if was.Status.State == is.Status.State && was.DesiredState == is.DesiredState && was.NodeID == is.NodeID &&
			(is.Status.State >= shoal.TaskAssigned || was.Status.Err == is.Status.Err) { // see blocked
			return nil
		}
		keys := []reconcile.Key{reconcile.Key(is.ServiceID)}
		if is.Status.State == shoal.TaskRunning || is.Status.State == shoal.TaskComplete {
			keys = append(keys, dependents(v, is.ServiceID)...)
		}
		return keys
	}
	if c.New != nil {
		return []reconcile.Key{reconcile.Key(c.New.(*shoal.Task).ServiceID)}
	}
	return []reconcile.Key{reconcile.Key(c.Old.(*shoal.Task).ServiceID)}
}

func sameForTasks(a, b *shoal.Node) bool {
	return a.Status == b.Status && a.Role == b.Role && reflect.DeepEqual(a.Spec, b.Spec) &&
		a.Description.Hostname == b.Description.Hostname && a.Description.Platform == b.Description.Platform &&
		reflect.DeepEqual(a.Description.EngineLabels, b.Description.EngineLabels)
}

// Reconcile implements reconcile.Controller.
func (o *Orchestrator) Reconcile(v store.View, key reconcile.Key) (store.Changes, error) {
	p := &plan{
		view: v, now: v.Now().UTC(), newID: o.newID, service: v.Service(shoal.ServiceID(key)),
		tasks: map[shoal.TaskID]*shoal.Task{}, written: map[string]int{}, nodes: map[shoal.NodeID]*shoal.Node{},
		room: map[shoal.NodeID]bool{},
	}
	for _, t := range v.TasksOfService(shoal.ServiceID(key)) {
		p.tasks[t.ID] = t
	}
	if p.service == nil {
		if key == "" {
			return attachments(v), nil
		}
		for _, t := range p.sorted() {
			p.desire(t, shoal.TaskRemove)
		}
		p.release()
		p.removeOld()
		return p.result(), nil
	}
	spec := p.service.SpecVersion
	p.reconcileTasks()
	if p.service.SpecVersion != spec { // rolled back
		p.reconcileTasks()
	}
	p.release()
	p.startWaiting()
	p.removeOld()
	return p.result(), nil
}

// reconcileTasks makes the tasks what the service's spec asks for, by the mode of the service.
func (p *plan) reconcileTasks() {
	p.constraints, _ = shoal.ParseConstraints(constraintsOf(p.service)) // the API has refused bad ones
	p.shutDownUnplaceable()
	switch {
	case p.service.Spec.Mode.IsJob():
		p.job()
	case p.service.Spec.Mode.IsGlobal():
		p.global()
	default:
		p.replicated()
	}
}

// result is the planned changes, without the puts of tasks that the plan later removed.
func (p *plan) result() store.Changes {
	p.changes.Puts = slices.DeleteFunc(p.changes.Puts, func(o store.Object) bool { return o == nil })
	p.changes.Deletes = p.deletes
	return p.changes
}

// attachments deletes the endpoints of plain containers that are to go or whose node has left.
func attachments(v store.View) store.Changes {
	var changes store.Changes
	for _, t := range v.Tasks() {
		if t.ServiceID != "" {
			continue
		}
		node := v.Node(t.NodeID)
		stopped := t.Status.State.Ended() || (node != nil && node.Status.State == shoal.NodeDown)
		if node == nil || (t.DesiredState == shoal.TaskRemove && stopped) {
			changes.Delete(t)
		}
	}
	return changes
}

func constraintsOf(s *shoal.Service) []string {
	if s.Spec.Task.Placement == nil {
		return nil
	}
	return s.Spec.Task.Placement.Constraints
}

// plan is the working state of one Reconcile call: the service's tasks as they are to be, and the changes that lead there.
type plan struct {
	view        store.View
	now         time.Time
	newID       func() shoal.TaskID
	service     *shoal.Service
	constraints []shoal.Constraint
	tasks       map[shoal.TaskID]*shoal.Task
	changes     store.Changes
	deletes     []store.Object
	written     map[string]int // index in changes.Puts by object ID
	waits       *bool          // see waitsForDependencies; nil until it is asked for
	order       []shoal.TaskID // the tasks, oldest first; nil after one was added
	nodes       map[shoal.NodeID]*shoal.Node
	room        map[shoal.NodeID]bool // see roomAfterStops
}

// sorted is the tasks, oldest first.
func (p *plan) sorted() []*shoal.Task {
	all := make([]*shoal.Task, 0, len(p.tasks))
	for _, id := range p.order {
		if t := p.tasks[id]; t != nil {
			all = append(all, t)
		}
	}
	if p.order != nil {
		return all
	}
	for _, t := range p.tasks {
		all = append(all, t)
	}
	slices.SortFunc(all, olderFirst)
	for _, t := range all {
		p.order = append(p.order, t.ID)
	}
	return all
}

func olderFirst(a, b *shoal.Task) int {
	if c := a.CreatedAt.Compare(b.CreatedAt); c != 0 {
		return c
	}
	return cmp.Compare(a.ID, b.ID)
}

// node is the node with an ID, nil if there is none.
func (p *plan) node(id shoal.NodeID) *shoal.Node {
	n, known := p.nodes[id]
	if !known {
		n = p.view.Node(id)
		p.nodes[id] = n
	}
	return n
}

// put puts a task, which is the task from then on for the rest of the plan.
func (p *plan) put(t *shoal.Task) {
	if p.tasks[t.ID] == nil {
		p.order = nil
	}
	p.tasks[t.ID] = t
	p.write(t)
}

// write puts an object, in place of what was put for it before.
func (p *plan) write(o store.Object) {
	if at, again := p.written[o.ObjectID()]; again {
		p.changes.Puts[at] = o
		return
	}
	p.written[o.ObjectID()] = len(p.changes.Puts)
	p.changes.Put(o)
}

// desire sets a task's desired state, if it comes after the present one: desired states never go back.
func (p *plan) desire(t *shoal.Task, state shoal.TaskState) {
	if t.DesiredState >= state {
		return
	}
	next := *t
	next.DesiredState = state
	p.put(&next)
}

// create adds a task for a slot, or for a node if the slot is 0. While the service waits for its dependencies the task's desired
// state is Ready, whatever is asked for.
func (p *plan) create(slot uint64, node shoal.NodeID, desired shoal.TaskState, notBefore time.Time) *shoal.Task {
	if p.waitsForDependencies() {
		desired = shoal.TaskReady
	}
	t := &shoal.Task{
		ID:           p.newID(),
		Meta:         shoal.Meta{CreatedAt: p.now},
		ServiceID:    p.service.ID,
		ServiceName:  p.service.Spec.Name,
		Labels:       p.service.Spec.Labels,
		Slot:         slot,
		NodeID:       node,
		Spec:         wantedSpec(p.service),
		SpecVersion:  p.service.SpecVersion,
		EndpointSpec: p.service.Spec.Endpoint,
		DesiredState: desired,
		Status:       shoal.TaskStatus{State: shoal.TaskNew, Timestamp: p.now, Message: "created"},
		NotBefore:    notBefore,
	}
	if c := p.view.Cluster(); c != nil {
		t.DefaultLogDriver = c.Spec.DefaultLogDriver
	}
	if p.service.JobStatus != nil {
		iteration := p.service.JobStatus.Iteration
		t.JobIteration = &iteration
	}
	p.put(t)
	return t
}

func wantedSpec(s *shoal.Service) shoal.TaskSpec {
	spec := s.Spec.Task
	spec.Networks = s.Spec.AttachedNetworks()
	return spec
}

// dirty tells whether a task differs from what the service's spec asks for. A change of placement alone does not make a task
// dirty if its node satisfies the new constraints.
func (p *plan) dirty(t *shoal.Task) bool {
	same, placed := compare(p.service, t)
	if same && !placed {
		node := p.node(t.NodeID)
		return node == nil || !p.satisfies(node)
	}
	return !same
}

// Stale tells whether a task was made from an older spec that asks for something else.
func Stale(s *shoal.Service, t *shoal.Task) bool {
	same, _ := compare(s, t)
	return !same
}

// compare tells whether a task is what the service asks for, placement aside, and whether its placement is.
func compare(s *shoal.Service, t *shoal.Task) (same, placed bool) {
	if t.SpecVersion == s.SpecVersion {
		return true, true
	}
	want, have := wantedSpec(s), t.Spec
	want.RegistryAuth, have.RegistryAuth = "", ""
	placed = reflect.DeepEqual(want.Placement, have.Placement)
	want.Placement, have.Placement = nil, nil
	return sameEndpoint(t.EndpointSpec, s.Spec.Endpoint) && reflect.DeepEqual(want, have), placed
}

func sameEndpoint(a, b *shoal.EndpointSpec) bool {
	if a == nil {
		a = &shoal.EndpointSpec{}
	}
	if b == nil {
		b = &shoal.EndpointSpec{}
	}
	return (a.Mode == b.Mode || a.Mode+b.Mode == shoal.ResolveVIP) && slices.Equal(a.Ports, b.Ports)
}

func (p *plan) satisfies(n *shoal.Node) bool {
	for _, c := range p.constraints {
		if !c.SatisfiedBy(n) {
			return false
		}
	}
	return true
}

// wanted tells whether a task is one of those meant to run.
func wanted(t *shoal.Task) bool { return t.DesiredState <= shoal.TaskComplete }

// stopped tells whether the task has ended, never started, or is on a node that is Down or removed and so cannot report its end.
func (p *plan) stopped(t *shoal.Task) bool {
	if t.Status.State.Ended() || t.NodeID == "" {
		return true
	}
	if t.Status.State < shoal.TaskAssigned {
		return true // preset by global mode, but not on its node yet
	}
	node := p.node(t.NodeID)
	return node == nil || node.Status.State == shoal.NodeDown
}

// shutDownUnplaceable shuts down the tasks whose node cannot or must not run them any more.
func (p *plan) shutDownUnplaceable() {
	for _, t := range p.sorted() {
		if !wanted(t) || t.NodeID == "" || t.Status.State.Ended() {
			continue
		}
		node := p.node(t.NodeID)
		if node == nil || node.Status.State == shoal.NodeDown || !p.satisfiesOwn(t, node) || (p.draining(node.ID) && !p.waitsForReplacement(t)) {
			p.desire(t, shoal.TaskShutdown)
		}
	}
}

// satisfiesOwn checks a node against the constraints that the task was created with. Constraints of a newer spec are enforced by
// the rolling update instead.
func (p *plan) satisfiesOwn(t *shoal.Task, n *shoal.Node) bool {
	if t.SpecVersion == p.service.SpecVersion {
		return p.satisfies(n)
	}
	if t.Spec.Placement == nil {
		return true
	}
	own, err := shoal.ParseConstraints(t.Spec.Placement.Constraints)
	if err != nil {
		return true
	}
	for _, c := range own {
		if !c.SatisfiedBy(n) {
			return false
		}
	}
	return true
}
