package store

import (
	"time"

	"github.com/hashicorp/go-memdb"

	"github.com/shoal-dev/shoal/internal/shoal"
)

// View is the cluster's state at one revision. Any number of goroutines may read it. The objects that it returns must not be changed, and the order of
// lists is not defined. The zero View is empty.
type View struct {
	db  *memdb.MemDB // never written to
	rev uint64
	now time.Time

	leader string

	history     *history     // the store's
	uncommitted *uncommitted // what With has changed; nil if nothing
}

// Revision is the store revision that the view shows.
func (v View) Revision() uint64 { return v.rev }

// Now is when the view was taken. Controllers use no other clock.
func (v View) Now() time.Time { return v.now }

// Leader is the shoal.ManagerStatus.MemberID of the manager that leads, or that led last.
func (v View) Leader() string { return v.leader }

// At returns the same view at another time.
func (v View) At(now time.Time) View {
	v.now = now
	return v
}

// With returns the view as it would be after the changes were committed, except that objects keep their Version.
func (v View) With(c Changes) View {
	if c.Empty() {
		return v
	}
	db := v.db.Snapshot()
	txn := db.Txn(true)
	for _, o := range c.Puts {
		mustInsert(txn, o)
	}
	for _, o := range c.Deletes {
		mustDelete(txn, o)
	}
	txn.Commit()
	v.db, v.uncommitted = db, v.uncommitted.with(c)
	return v
}

// Cluster is the one cluster object, nil before there is one.
func (v View) Cluster() *shoal.Cluster {
	for _, c := range list[*shoal.Cluster](v, KindCluster, indexID) {
		return c
	}
	return nil
}

// Service is the service with an ID, nil if there is none.
func (v View) Service(id shoal.ServiceID) *shoal.Service {
	return first[*shoal.Service](v, KindService, indexID, string(id))
}

// ServiceByName is the service with a name, nil if there is none.
func (v View) ServiceByName(name string) *shoal.Service {
	return first[*shoal.Service](v, KindService, indexName, name)
}

// Services is all services.
func (v View) Services() []*shoal.Service { return list[*shoal.Service](v, KindService, indexID) }

// ServicesByPrefix is the services whose ID begins with a text.
func (v View) ServicesByPrefix(id string) []*shoal.Service {
	return list[*shoal.Service](v, KindService, indexIDPrefix, id)
}

// DependentServices is the services that wait for others when they start: see shoal.LabelDependsOn.
func (v View) DependentServices() []*shoal.Service {
	return list[*shoal.Service](v, KindService, indexDependent, true)
}

// Task is the task with an ID, nil if there is none.
func (v View) Task(id shoal.TaskID) *shoal.Task {
	return first[*shoal.Task](v, KindTask, indexID, string(id))
}

// Tasks is all tasks.
func (v View) Tasks() []*shoal.Task { return list[*shoal.Task](v, KindTask, indexID) }

// TasksByPrefix is the tasks whose ID begins with a text.
func (v View) TasksByPrefix(id string) []*shoal.Task {
	return list[*shoal.Task](v, KindTask, indexIDPrefix, id)
}

// TasksOfService is all tasks of a service, past and present.
func (v View) TasksOfService(id shoal.ServiceID) []*shoal.Task {
	return list[*shoal.Task](v, KindTask, indexService, string(id))
}

// TasksOnNode is all tasks that were ever placed on a node and still exist, whatever their state.
func (v View) TasksOnNode(id shoal.NodeID) []*shoal.Task {
	return list[*shoal.Task](v, KindTask, indexNode, string(id))
}

// UnassignedTasks is the tasks whose observed state is below Assigned.
func (v View) UnassignedTasks() []*shoal.Task {
	return list[*shoal.Task](v, KindTask, indexUnassigned, true)
}

// TasksOfSlot is the tasks, past and present, of one slot of a replicated service.
func (v View) TasksOfSlot(service shoal.ServiceID, slot uint64) []*shoal.Task {
	return list[*shoal.Task](v, KindTask, indexSlot, string(service), slot)
}

// Node is the node with an ID, nil if there is none.
func (v View) Node(id shoal.NodeID) *shoal.Node {
	return first[*shoal.Node](v, KindNode, indexID, string(id))
}

// Nodes is all nodes.
func (v View) Nodes() []*shoal.Node { return list[*shoal.Node](v, KindNode, indexID) }

// NodesByPrefix is the nodes whose ID begins with a text.
func (v View) NodesByPrefix(id string) []*shoal.Node {
	return list[*shoal.Node](v, KindNode, indexIDPrefix, id)
}

// NodesByName is the nodes with a host name, of which there may be several.
func (v View) NodesByName(name string) []*shoal.Node {
	return list[*shoal.Node](v, KindNode, indexName, name)
}

// Network is the network with an ID, nil if there is none.
func (v View) Network(id shoal.NetworkID) *shoal.Network {
	return first[*shoal.Network](v, KindNetwork, indexID, string(id))
}

// NetworkByName is the network with a name, nil if there is none.
func (v View) NetworkByName(name string) *shoal.Network {
	return first[*shoal.Network](v, KindNetwork, indexName, name)
}

// Networks is all networks.
func (v View) Networks() []*shoal.Network { return list[*shoal.Network](v, KindNetwork, indexID) }

// NetworksByPrefix is the networks whose ID begins with a text.
func (v View) NetworksByPrefix(id string) []*shoal.Network {
	return list[*shoal.Network](v, KindNetwork, indexIDPrefix, id)
}

// IngressNetwork is the routing mesh's network, nil if there is none.
func (v View) IngressNetwork() *shoal.Network {
	for _, n := range v.Networks() {
		if n.Spec.Ingress {
			return n
		}
	}
	return nil
}

// Secret is the secret with an ID, nil if there is none.
func (v View) Secret(id shoal.SecretID) *shoal.Secret {
	return first[*shoal.Secret](v, KindSecret, indexID, string(id))
}

// SecretByName is the secret with a name, nil if there is none.
func (v View) SecretByName(name string) *shoal.Secret {
	return first[*shoal.Secret](v, KindSecret, indexName, name)
}

// Secrets is all secrets.
func (v View) Secrets() []*shoal.Secret { return list[*shoal.Secret](v, KindSecret, indexID) }

// SecretsByPrefix is the secrets whose ID begins with a text.
func (v View) SecretsByPrefix(id string) []*shoal.Secret {
	return list[*shoal.Secret](v, KindSecret, indexIDPrefix, id)
}

// Config is the config with an ID, nil if there is none.
func (v View) Config(id shoal.ConfigID) *shoal.Config {
	return first[*shoal.Config](v, KindConfig, indexID, string(id))
}

// ConfigByName is the config with a name, nil if there is none.
func (v View) ConfigByName(name string) *shoal.Config {
	return first[*shoal.Config](v, KindConfig, indexName, name)
}

// Configs is all configs.
func (v View) Configs() []*shoal.Config { return list[*shoal.Config](v, KindConfig, indexID) }

// ConfigsByPrefix is the configs whose ID begins with a text.
func (v View) ConfigsByPrefix(id string) []*shoal.Config {
	return list[*shoal.Config](v, KindConfig, indexIDPrefix, id)
}

// Get is the object of a kind with an ID, nil if there is none.
func (v View) Get(k Kind, id string) Object { return first[Object](v, k, indexID, id) }

// List is all objects of a kind.
func (v View) List(k Kind) []Object { return list[Object](v, k, indexID) }

func first[T any](v View, k Kind, index string, args ...any) T {
	var none T
	if v.db == nil {
		return none
	}
	o, err := v.db.Txn(false).First(string(k), index, args...)
	if err != nil {
		panic("store: read " + string(k) + " by " + index + ": " + err.Error()) // the schema in newDB is wrong; no input can cause it
	}
	if o == nil {
		return none
	}
	return o.(T)
}

func list[T any](v View, k Kind, index string, args ...any) []T {
	if v.db == nil {
		return nil
	}
	it, err := v.db.Txn(false).Get(string(k), index, args...)
	if err != nil {
		panic("store: list " + string(k) + " by " + index + ": " + err.Error())
	}
	var all []T
	for o := it.Next(); o != nil; o = it.Next() {
		all = append(all, o.(T))
	}
	return all
}
