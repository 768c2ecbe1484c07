package engine

import (
	"net"
	"slices"
	"strconv"

	apinetwork "github.com/moby/moby/api/types/network"

	"github.com/shoal-dev/shoal/internal/api/convert"
	"github.com/shoal-dev/shoal/internal/shoal"
)

// networkScope is where a network exists: on one node or in the cluster. A spec that leaves it open has that of its driver.
func networkScope(n shoal.Network) string {
	if n.Spec.Scope == "" && n.Spec.Driver == shoal.DriverOverlay {
		return shoal.ScopeSwarm
	}
	return n.Spec.Scope
}

// toAPIDriverName is empty for a network of the cluster that could not be allocated, as in Docker.
func toAPIDriverName(n shoal.Network) string {
	if n.Err != "" {
		return ""
	}
	return n.Spec.Driver
}

// networkType is what the filter "type" calls a network.
func networkType(n shoal.Network) string {
	if slices.Contains([]string{"bridge", "host", "none"}, n.Spec.Name) || n.Spec.Ingress {
		return "builtin"
	}
	return "custom"
}

func toAPINetwork(n shoal.Network) apinetwork.Network {
	out := apinetwork.Network{Name: n.Spec.Name, ID: string(n.ID), Created: n.CreatedAt, Scope: networkScope(n), Driver: toAPIDriverName(n),
		EnableIPv4: n.Spec.EnableIPv4 == nil || *n.Spec.EnableIPv4, EnableIPv6: convert.HasIPv6(&n), Internal: n.Spec.Internal, Attachable: n.Spec.Attachable,
		Ingress: n.Spec.Ingress, ConfigFrom: apinetwork.ConfigReference{Network: n.Spec.ConfigFrom}, ConfigOnly: n.Spec.ConfigOnly, Labels: n.Spec.Labels}
	if n.Err == "" {
		out.IPAM.Driver = "default"
		if len(n.Spec.IPAMOptions) > 0 {
			out.IPAM.Options = n.Spec.IPAMOptions
		}
	}
	for _, s := range n.IPAM {
		out.IPAM.Config = append(out.IPAM.Config, toAPIIPAMConfig(s))
	}
	if n.VNI != 0 || n.Err == "" {
		out.Options = convert.ToAPINetworkOptions(&n)
	}
	switch {
	case networkScope(n) == shoal.ScopeLocal:
		out.Labels = convert.NonNil(out.Labels)
	case len(out.Labels) == 0:
		out.Labels = nil
	}
	return out
}

func toAPIIPAMConfig(s shoal.Subnet) apinetwork.IPAMConfig {
	return apinetwork.IPAMConfig{Subnet: s.Subnet, IPRange: s.Range, Gateway: s.Gateway, AuxAddress: s.Aux}
}

// toAPIHardwareAddr is nil for an endpoint that has none.
func toAPIHardwareAddr(mac shoal.MAC) apinetwork.HardwareAddr {
	hw, err := net.ParseMAC(mac.String())
	if err != nil {
		return nil
	}
	return apinetwork.HardwareAddr(hw)
}

// toAPIPeers shows the nodes that have an endpoint on a network, this one always.
func toAPIPeers(table shoal.Table, id shoal.NetworkID) []apinetwork.PeerInfo {
	nodes := map[shoal.NodeID]bool{table.NodeID: true}
	for _, e := range table.Endpoints {
		if e.NetworkID == id {
			nodes[e.NodeID] = true
		}
	}
	var out []apinetwork.PeerInfo
	for nodeID := range nodes {
		if p, ok := table.Peers[nodeID]; ok && p.DataAddr.IsValid() {
			out = append(out, apinetwork.PeerInfo{Name: string(nodeID[:min(12, len(nodeID))]), IP: p.DataAddr})
		}
	}
	slices.SortFunc(out, func(a, b apinetwork.PeerInfo) int { return a.IP.Compare(b.IP) })
	return out
}

// toAPIServices shows the services on a network, by name, with their tasks.
func toAPIServices(table shoal.Table, id shoal.NetworkID) map[string]apinetwork.ServiceInfo {
	out := map[string]apinetwork.ServiceInfo{}
	for _, e := range table.Endpoints {
		s, ok := table.Services[e.ServiceID]
		if e.NetworkID != id || !ok {
			continue
		}
		info := out[s.Name]
		info.VIP, info.Ports = s.VIPs[id].Addr(), []string{}
		for _, p := range s.Ports {
			info.Ports = append(info.Ports, "Target: "+strconv.Itoa(int(p.Target))+", Publish: "+strconv.Itoa(int(p.Published)))
		}
		info.Tasks = append(info.Tasks, apinetwork.Task{Name: e.Name, EndpointID: string(e.TaskID), EndpointIP: e.Addr.Addr(),
			Info: map[string]string{"Host IP": table.Peers[e.NodeID].DataAddr.String()}})
		out[s.Name] = info
	}
	for _, info := range out {
		slices.SortFunc(info.Tasks, func(a, b apinetwork.Task) int { return a.EndpointIP.Compare(b.EndpointIP) })
	}
	return out
}
