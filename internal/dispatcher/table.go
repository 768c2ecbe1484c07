package dispatcher

import (
	"net/netip"

	"github.com/shoal-dev/shoal/internal/shoal"
	"github.com/shoal-dev/shoal/internal/store"
)

// defaultProbePort is where nodes answer liveness probes unless they say otherwise.
const defaultProbePort = 7946

// stackLabel of a service names the stack that it was deployed with.
const stackLabel = "com.docker.stack.namespace"

// TableOf is the table of a node: the networks that its tasks are on and the ingress network, with their endpoints, services and
// peers.
func TableOf(view store.View, node shoal.NodeID) shoal.Table {
	t := shoal.Table{
		Version:      view.Revision(),
		NodeID:       node,
		DataPathPort: shoal.DefaultDataPathPort,
		Networks:     map[shoal.NetworkID]shoal.Network{},
		Peers:        map[shoal.NodeID]shoal.Peer{},
		Services:     map[shoal.ServiceID]shoal.ServiceEntry{},
		Endpoints:    map[shoal.EndpointKey]shoal.Endpoint{},
	}
	if c := view.Cluster(); c != nil && c.DataPathPort != 0 {
		t.DataPathPort = uint16(c.DataPathPort) // #nosec G115 -- checked when it was set
	}
	addNetworks(view, &t)
	addTunnelSecret(view, &t)
	ready := addPeers(view, &t)
	for _, task := range view.Tasks() {
		addEndpoints(&t, task, ready[task.NodeID])
	}
	for _, s := range view.Services() {
		addService(&t, s)
	}
	return t
}

func addNetworks(view store.View, t *shoal.Table) {
	if ingress := view.IngressNetwork(); ingress != nil && ingress.VNI != 0 {
		t.Networks[ingress.ID] = *ingress
	}
	for _, task := range view.TasksOnNode(t.NodeID) {
		if task.Status.State.Ended() {
			continue
		}
		for _, n := range task.Networks {
			if network := view.Network(n.NetworkID); network != nil {
				t.Networks[network.ID] = *network
			}
		}
	}
	for id, n := range t.Networks {
		n.Meta = shoal.Meta{CreatedAt: n.CreatedAt} // without Version and UpdatedAt, which change more often than what concerns the node
		t.Networks[id] = n
	}
}

// addTunnelSecret gives the secret only to nodes that need it.
func addTunnelSecret(view store.View, t *shoal.Table) {
	cluster := view.Cluster()
	for _, n := range t.Networks {
		if cluster != nil && n.Encrypted() {
			t.TunnelSecret = cluster.TunnelSecret
		}
	}
}

// addPeers adds all nodes whose address is known, and returns which nodes are Ready.
func addPeers(view store.View, t *shoal.Table) map[shoal.NodeID]bool {
	ready := map[shoal.NodeID]bool{}
	for _, n := range view.Nodes() {
		ready[n.ID] = n.Ready()
		if !n.DataAddr.IsValid() {
			continue // never had a session
		}
		port := n.ProbePort
		if port == 0 {
			port = defaultProbePort
		}
		t.Peers[n.ID] = shoal.Peer{
			NodeID:       n.ID,
			Hostname:     n.Description.Hostname,
			DataAddr:     n.DataAddr,
			IngressAddr:  n.IngressAddr.Addr(),
			IngressAddr6: n.IngressAddr6.Addr(),
			TunnelAddr:   n.TunnelAddr,
			TunnelKey:    n.Description.TunnelKey,
			HostAddrs6:   n.Description.Addrs6,
			ProbeAddr:    netip.AddrPortFrom(n.DataAddr, port),
		}
	}
	return ready
}

func addEndpoints(t *shoal.Table, task *shoal.Task, nodeReady bool) {
	if task.NodeID == "" || task.Status.State < shoal.TaskAssigned || task.Status.State.Ended() {
		return
	}
	for _, n := range task.Networks {
		if _, ok := t.Networks[n.NetworkID]; !ok {
			continue
		}
		e := shoal.Endpoint{
			TaskID: task.ID, NetworkID: n.NetworkID, NodeID: task.NodeID, ServiceID: task.ServiceID,
			Name: task.Name(), Slot: task.Slot, State: endpointState(task, nodeReady), Aliases: n.Aliases,
		}
		e.Addr, e.Addr6 = n.Prefixes()
		if !e.Addr.IsValid() {
			continue
		}
		if task.Spec.Attachment != nil {
			e.ContainerID = task.Spec.Attachment.ContainerID
			e.Name = task.Spec.Attachment.ContainerName
		} else if task.Status.Container != nil {
			e.ContainerID = task.Status.Container.ContainerID
		}
		t.Endpoints[e.Key()] = e
	}
}

// endpointState derives what balancers may do with a task from its desired and observed state.
func endpointState(task *shoal.Task, nodeReady bool) shoal.EndpointState {
	switch {
	case !task.Wanted() || task.Status.Leaving || task.Status.Unready || !nodeReady:
		return shoal.EndpointDraining
	case task.Status.State == shoal.TaskRunning:
		return shoal.EndpointReady
	default:
		return shoal.EndpointStarting
	}
}

func addService(t *shoal.Table, s *shoal.Service) {
	entry := shoal.ServiceEntry{ID: s.ID, Name: s.Spec.Name, Mode: shoal.ResolveVIP, Stack: s.Spec.Labels[stackLabel],
		VIPs: map[shoal.NetworkID]netip.Prefix{}, VIPs6: map[shoal.NetworkID]netip.Prefix{}, Aliases: map[shoal.NetworkID][]string{}}
	if s.Spec.Endpoint != nil && s.Spec.Endpoint.Mode != "" {
		entry.Mode = s.Spec.Endpoint.Mode
	}
	concerned := false
	for _, vip := range s.Endpoint.VIPs {
		if _, ok := t.Networks[vip.NetworkID]; !ok {
			continue
		}
		if vip.Addr.IsValid() {
			entry.VIPs[vip.NetworkID] = vip.Addr
			concerned = true
		}
		if vip.Addr6.IsValid() {
			entry.VIPs6[vip.NetworkID] = vip.Addr6
		}
	}
	for _, n := range s.Spec.AttachedNetworks() {
		if _, ok := t.Networks[shoal.NetworkID(n.Target)]; ok {
			concerned = true
			if len(n.Aliases) > 0 {
				entry.Aliases[shoal.NetworkID(n.Target)] = n.Aliases
			}
		}
	}
	entry.Ports = meshPorts(s)
	if concerned || len(entry.Ports) > 0 {
		t.Services[s.ID] = entry
	}
}
