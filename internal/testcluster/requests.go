package testcluster

import (
	"context"
	"fmt"
	"net"
	"reflect"
	"strconv"
	"time"

	"github.com/shoal-dev/shoal/internal/daemon/swarm"
	"github.com/shoal-dev/shoal/internal/membership"
	"github.com/shoal-dev/shoal/internal/rpc"
	"github.com/shoal-dev/shoal/internal/shoal"
	"github.com/shoal-dev/shoal/internal/store"
)

// What users ask of the cluster. It is written to the store as the API writes it, by way of the leader or any other manager.

// write changes the state.
func (c *Cluster) write(what string, change func(store.View) (store.Changes, error)) {
	c.t.Helper()
	ctx, cancel := c.context()
	defer cancel()
	s := c.store()
	if s == nil {
		c.t.Fatalf("%s: no manager has the cluster's state", what)
	}
	if err := s.Update(ctx, change); err != nil {
		c.t.Fatalf("%s: %v", what, err)
	}
}

// Image sets how containers of an image behave.
func (c *Cluster) Image(name string, image Image) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.images[name] = image
}

func (c *Cluster) imageNamed(name string) Image {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.images[name]
}

func (c *Cluster) image(task *shoal.Task) Image { return c.imageNamed(task.Spec.Container.Image) }

// Join makes a machine part of the cluster.
func (c *Cluster) Join(name string, role shoal.NodeRole) {
	c.t.Helper()
	token := c.View().Cluster().Tokens.Worker
	if role == shoal.RoleManager {
		token = c.View().Cluster().Tokens.Manager
	}
	if err := c.TryJoin(name, token); err != nil {
		c.t.Fatalf("%s joins as a %s: %v", name, role, err)
	}
}

// TryJoin makes a machine part of the cluster that a token belongs to.
func (c *Cluster) TryJoin(name, token string) error {
	c.t.Helper()
	m := c.Machine(name)
	ctx, cancel := c.context()
	defer cancel()
	err := m.running().members.Join(ctx, membership.JoinRequest{
		ListenAddr: m.Addr.String(), AdvertiseAddr: m.Addr.String(), Remotes: membership.Managers(c.View()), Token: token,
	})
	m.nodeID = m.Info().NodeID
	return err
}

// Replace makes a machine that has lost its disk part of the cluster again, under a new identity, and has the old one forgotten.
func (c *Cluster) Replace(name string) {
	c.t.Helper()
	m, old := c.Machine(name), c.Node(name)
	if old != nil {
		c.Eventually(c.IsNode(name, shoal.NodeDown))
		if old.Role == shoal.RoleManager {
			c.SetRole(name, shoal.RoleWorker)
			c.Eventually(func(v store.View) string {
				if v.Node(old.ID).Manager != nil {
					return name + " is still a manager"
				}
				return ""
			})
		}
		c.RemoveNode(name)
	}
	m.blank = false
	role := shoal.RoleWorker
	if old != nil {
		role = old.Role
	}
	c.Join(name, role)
}

// Leave makes a machine leave the cluster of its own will; managers too.
func (c *Cluster) Leave(name string) {
	c.t.Helper()
	ctx, cancel := c.context()
	defer cancel()
	if err := c.Machine(name).running().members.Leave(ctx, true); err != nil {
		c.t.Fatalf("%s leaves: %v", name, err)
	}
}

// Node is a machine's node; nil if the cluster does not know it.
func (c *Cluster) Node(name string) *shoal.Node { return c.View().Node(c.Machine(name).nodeID) }

// nameOf is the machine that is a node; the ID itself if it is none's.
func (c *Cluster) nameOf(node shoal.NodeID) string {
	for _, m := range c.machines {
		if m.nodeID == node && node != "" {
			return m.Name
		}
	}
	return string(node)
}

func (c *Cluster) updateNode(name string, change func(*shoal.NodeSpec)) {
	c.t.Helper()
	c.write("update node "+name, func(v store.View) (store.Changes, error) {
		n := *v.Node(c.Machine(name).nodeID)
		change(&n.Spec)
		n.SpecOver = n.Version
		return store.Changes{Puts: []store.Object{&n}}, nil
	})
}

// UpdateCluster changes the cluster object.
func (c *Cluster) UpdateCluster(change func(*shoal.Cluster) error) {
	c.t.Helper()
	c.write("update the cluster", func(v store.View) (store.Changes, error) {
		cluster := *v.Cluster()
		err := change(&cluster)
		return store.Changes{Puts: []store.Object{&cluster}}, err
	})
}

// SetRole asks for a promotion or demotion.
func (c *Cluster) SetRole(name string, role shoal.NodeRole) {
	c.t.Helper()
	c.updateNode(name, func(s *shoal.NodeSpec) { s.Role = role })
}

// SetAvailability drains, pauses or activates a node.
func (c *Cluster) SetAvailability(name string, a shoal.Availability) {
	c.t.Helper()
	c.updateNode(name, func(s *shoal.NodeSpec) { s.Availability = a })
}

// RemoveNode forgets a node.
func (c *Cluster) RemoveNode(name string) {
	c.t.Helper()
	c.write("remove node "+name, func(v store.View) (store.Changes, error) {
		return store.Changes{Deletes: []store.Object{v.Node(c.Machine(name).nodeID)}}, nil
	})
}

// Service creates a replicated service; options complete its spec. Its image has its name.
func (c *Cluster) Service(name string, replicas uint64, options ...func(*shoal.ServiceSpec)) {
	c.t.Helper()
	spec := shoal.ServiceSpec{
		Name: name, Mode: shoal.ServiceMode{Replicated: &shoal.Replicated{Replicas: &replicas}},
		Task: shoal.TaskSpec{Container: &shoal.ContainerSpec{Image: name}},
	}
	for _, option := range options {
		option(&spec)
	}
	service := &shoal.Service{ID: shoal.NewID[shoal.ServiceID](), Spec: spec}
	c.write("create service "+name, func(v store.View) (store.Changes, error) {
		if spec.Mode.IsJob() {
			service.JobStatus = &shoal.JobStatus{LastExecution: v.Now()}
		}
		return store.Changes{Puts: []store.Object{service}}, nil
	})
}

// Published makes a service answer at a port of the routing mesh.
func Published(port uint16) func(*shoal.ServiceSpec) {
	return func(s *shoal.ServiceSpec) {
		const inside = 80
		s.Endpoint = &shoal.EndpointSpec{Ports: []shoal.Port{{Protocol: shoal.TCP, Target: inside, Published: port, Mode: shoal.PublishIngress}}}
	}
}

// Everywhere makes a service global.
func Everywhere(s *shoal.ServiceSpec) { s.Mode = shoal.ServiceMode{Global: &shoal.Global{}} }

// UpdateService changes a service's spec.
func (c *Cluster) UpdateService(name string, change func(*shoal.ServiceSpec)) {
	c.t.Helper()
	c.write("update service "+name, func(v store.View) (store.Changes, error) {
		next := *v.ServiceByName(name)
		previous := next.Spec
		next.Spec.Task.Container = new(*next.Spec.Task.Container)
		change(&next.Spec)
		if !reflect.DeepEqual(previous, next.Spec) {
			next.SpecVersion++
		}
		next.PreviousSpec, next.UpdateStatus = &previous, nil
		return store.Changes{Puts: []store.Object{&next}}, nil
	})
}

// RemoveService ends a service.
func (c *Cluster) RemoveService(name string) {
	c.t.Helper()
	c.write("remove service "+name, func(v store.View) (store.Changes, error) {
		return store.Changes{Deletes: []store.Object{v.ServiceByName(name)}}, nil
	})
}

// Secret creates a secret and gives the option that a service has it by, as a file of its name.
func (c *Cluster) Secret(name, data string) func(*shoal.ServiceSpec) {
	c.t.Helper()
	secret := &shoal.Secret{ID: shoal.NewID[shoal.SecretID](), Name: name, Data: []byte(data)}
	c.write("create secret "+name, func(store.View) (store.Changes, error) {
		return store.Changes{Puts: []store.Object{secret}}, nil
	})
	return func(s *shoal.ServiceSpec) {
		s.Task.Container.Secrets = append(s.Task.Container.Secrets, shoal.SecretReference{ID: secret.ID, Name: name, Target: name})
	}
}

// Network creates an overlay network and gives the option that a service is on it by.
func (c *Cluster) Network(name string) func(*shoal.ServiceSpec) {
	c.t.Helper()
	network := &shoal.Network{ID: shoal.NewID[shoal.NetworkID](), Spec: shoal.NetworkSpec{Name: name, Driver: shoal.DriverOverlay, Scope: shoal.ScopeSwarm}}
	c.write("create network "+name, func(store.View) (store.Changes, error) {
		return store.Changes{Puts: []store.Object{network}}, nil
	})
	return func(s *shoal.ServiceSpec) {
		s.Task.Networks = append(s.Task.Networks, shoal.NetworkAttachmentSpec{Target: string(network.ID)})
	}
}

// Logs reads the logs of a service's tasks as a manager does for a user.
func (c *Cluster) Logs(ctx context.Context, manager, service string, follow bool, each func(shoal.LogLine) error) error {
	return swarm.Logs(ctx, c.Machine(manager).running().members, c.logQuery(service, follow), each)
}

func (c *Cluster) logQuery(service string, follow bool) shoal.LogQuery {
	query := shoal.LogQuery{Follow: follow, Tail: -1, Stdout: true, Stderr: true}
	for _, t := range c.TasksOf(c.View(), service) {
		query.TaskIDs = append(query.TaskIDs, t.ID)
	}
	return query
}

// dial connects to a manager under the identity of a machine.
func (c *Cluster) dial(manager, as string) (*rpc.Client, error) {
	m := c.Machine(as)
	identity, err := m.identity()
	if err != nil {
		return nil, err
	}
	dialer := rpc.Dialer{Connect: m.running().endpoint.connect}
	return dialer.Dial(net.JoinHostPort(c.Machine(manager).Addr.String(), strconv.Itoa(rpc.DefaultPort)), identity.ClientTLS())
}

// FollowLogsAt reads a service's logs from a manager under the identity of a machine, over a connection on which there is nothing else, until ctx ends or the
// manager ends it.
func (c *Cluster) FollowLogsAt(ctx context.Context, manager, as, service string) error {
	client, err := c.dial(manager, as)
	if err != nil {
		return err
	}
	defer func() { _ = client.Close() }()
	return client.ReadLogs(ctx, c.logQuery(service, true), func(shoal.LogLine) error { return nil })
}

// SessionAt opens a session with a manager under the identity of a machine and gives its answer: a redirection, or the first tasks.
func (c *Cluster) SessionAt(manager, as string) (*rpc.ManagerMessage, error) {
	m := c.Machine(as)
	ctx, cancel := c.context()
	defer cancel()
	client, err := c.dial(manager, as)
	if err != nil {
		return nil, err
	}
	defer func() { _ = client.Close() }()
	session, err := client.Session(ctx)
	if err != nil {
		return nil, err
	}
	if err := session.Send(&rpc.AgentMessage{Hello: &rpc.Hello{Description: m.describe()}}); err != nil {
		return nil, err
	}
	for {
		answer, err := session.Recv()
		if err != nil || answer.Redirect != nil || answer.Tasks != nil {
			return answer, err
		}
	}
}

// WriteThroughout makes configs by way of whichever daemon the machine has, one after the other with a pause, from now until do has
// returned. It gives the names of those that were acknowledged.
func (c *Cluster) WriteThroughout(manager string, pause time.Duration, do func()) []string {
	c.t.Helper()
	m := c.Machine(manager)
	ctx, cancel := context.WithCancel(c.t.Context())
	result := make(chan []string)
	go func() {
		var acknowledged []string
		for n := 0; ctx.Err() == nil; n++ {
			config := &shoal.Config{ID: shoal.NewID[shoal.ConfigID](), Name: fmt.Sprint("config", n)}
			if db := m.Store(); db != nil {
				if _, err := db.Commit(ctx, store.Changes{Puts: []store.Object{config}}); err == nil {
					acknowledged = append(acknowledged, config.Name)
				}
			}
			time.Sleep(pause)
		}
		result <- acknowledged
	}()
	do()
	cancel()
	return <-result
}
