package api

import (
	"maps"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	nettypes "github.com/moby/moby/api/types/network"

	"github.com/shoal-dev/shoal/internal/shoal"
)

// createNetwork is the body of POST /networks/create. Addresses are read as text, so that what is wrong with them can be told in
// Docker's words.
type createNetwork struct {
	Name, Driver, Scope                       string
	EnableIPv4, EnableIPv6                    *bool
	Internal, Attachable, Ingress, ConfigOnly bool
	ConfigFrom                                *nettypes.ConfigReference
	Options, Labels                           map[string]string
	IPAM                                      *struct {
		Driver  string
		Options map[string]string
		Config  []struct {
			Subnet, IPRange, Gateway string
			AuxiliaryAddresses       map[string]string
		}
	}
}

func (req *createNetwork) spec() (shoal.NetworkSpec, error) {
	spec := shoal.NetworkSpec{Name: req.Name, Labels: req.Labels, Driver: req.Driver, Scope: req.Scope, Options: req.Options, EnableIPv4: req.EnableIPv4,
		EnableIPv6: req.EnableIPv6 != nil && *req.EnableIPv6, Internal: req.Internal, Attachable: req.Attachable, Ingress: req.Ingress, ConfigOnly: req.ConfigOnly}
	if spec.Driver == "" || spec.Driver == "default" {
		spec.Driver = shoal.DriverBridge
	}
	if req.ConfigFrom != nil {
		spec.ConfigFrom = req.ConfigFrom.Network
	}
	switch {
	case spec.Scope != "" && spec.Scope != shoal.ScopeLocal && spec.Scope != shoal.ScopeSwarm:
		return spec, fail(http.StatusBadRequest, "invalid network scope: %q", spec.Scope)
	case spec.ConfigOnly: // of whatever driver will be made from it
	case spec.Driver == shoal.DriverOverlay && spec.Scope == shoal.ScopeLocal:
		return spec, fail(http.StatusBadRequest, "an overlay network cannot have local scope")
	case spec.Driver == shoal.DriverOverlay:
		spec.Scope = shoal.ScopeSwarm
	case spec.Driver != shoal.DriverBridge && spec.Driver != shoal.DriverMacvlan:
		return spec, fail(http.StatusNotFound, "plugin %q not found", spec.Driver)
	case spec.Scope == shoal.ScopeSwarm:
		return spec, fail(http.StatusBadRequest, "cannot create a swarm scoped network with the %s driver", spec.Driver)
	case spec.Ingress:
		return spec, fail(http.StatusForbidden, "only swarm scoped networks can be ingress")
	}
	if req.IPAM == nil {
		return spec, nil
	}
	spec.IPAMDriver, spec.IPAMOptions = req.IPAM.Driver, req.IPAM.Options
	var wrong []string
	for _, c := range req.IPAM.Config {
		wrong = append(wrong, checkSubnet(c.Subnet, c.IPRange, c.Gateway, c.AuxiliaryAddresses)...)
		spec.IPAM = append(spec.IPAM, shoal.Subnet{Subnet: c.Subnet, Range: c.IPRange, Gateway: c.Gateway, Aux: c.AuxiliaryAddresses})
	}
	if len(wrong) > 0 {
		return spec, fail(http.StatusBadRequest, "invalid network config:\n%s", strings.Join(wrong, "\n"))
	}
	return spec, nil
}

func checkSubnet(subnet, ipRange, gateway string, auxiliary map[string]string) []string {
	if subnet == "" {
		if ipRange != "" || gateway != "" || len(auxiliary) > 0 {
			return []string{"invalid subnet: there is none for the range, gateway or auxiliary address that was given"}
		}
		return nil
	}
	p, err := netip.ParsePrefix(subnet)
	if err != nil {
		return []string{"invalid subnet " + subnet + ": invalid CIDR block notation"}
	}
	var wrong []string
	if p != p.Masked() {
		wrong = append(wrong, "invalid subnet "+subnet+": it should be "+p.Masked().String())
	}
	if ipRange != "" {
		r, err := netip.ParsePrefix(ipRange)
		switch {
		case err != nil:
			wrong = append(wrong, "invalid ip-range "+ipRange+": invalid CIDR block notation")
		case r.Bits() < p.Bits():
			wrong = append(wrong, "invalid ip-range "+ipRange+": CIDR block is bigger than its parent subnet "+subnet)
		case !p.Contains(r.Addr()):
			wrong = append(wrong, "invalid ip-range "+ipRange+": parent subnet "+subnet+" doesn't contain ip-range")
		case r != r.Masked():
			wrong = append(wrong, "invalid ip-range "+ipRange+": it should be "+r.Masked().String())
		}
	}
	if gateway != "" {
		gw, err := netip.ParseAddr(gateway)
		switch {
		case err != nil:
			wrong = append(wrong, "invalid gateway "+gateway+": invalid address")
		case !p.Contains(gw):
			wrong = append(wrong, "invalid gateway "+gateway+": parent subnet "+subnet+" doesn't contain this address")
		}
	}
	for _, name := range slices.Sorted(maps.Keys(auxiliary)) {
		switch aux, err := netip.ParseAddr(auxiliary[name]); {
		case err != nil:
			wrong = append(wrong, "invalid auxiliary address "+name+": invalid address")
		case !p.Contains(aux):
			wrong = append(wrong, "invalid auxiliary address "+name+": parent subnet "+subnet+" doesn't contain this address")
		}
	}
	return wrong
}

func scopeOf(n shoal.Network) string {
	if n.Spec.Scope == "" && n.Spec.Driver == shoal.DriverOverlay {
		return shoal.ScopeSwarm
	}
	return n.Spec.Scope
}

// driverShown is empty for a cluster network that could not be allocated, as in Docker.
func driverShown(n shoal.Network) string {
	if n.Err != "" {
		return ""
	}
	return n.Spec.Driver
}

// hasIPv6 is what the user asked for, and true of an ingress network that was given IPv6 unasked.
func hasIPv6(n shoal.Network) bool {
	return n.Spec.EnableIPv6 || slices.ContainsFunc(n.IPAM, func(s shoal.Subnet) bool { return prefixOf(s.Subnet).Addr().Is6() })
}

func typeOf(n shoal.Network) string {
	if slices.Contains([]string{"bridge", "host", "none"}, n.Spec.Name) || n.Spec.Ingress {
		return "builtin"
	}
	return "custom"
}

func networkTo(n shoal.Network) nettypes.Network {
	out := nettypes.Network{Name: n.Spec.Name, ID: n.ID, Created: n.CreatedAt, Scope: scopeOf(n), Driver: driverShown(n),
		EnableIPv4: n.Spec.EnableIPv4 == nil || *n.Spec.EnableIPv4, EnableIPv6: hasIPv6(n), Internal: n.Spec.Internal, Attachable: n.Spec.Attachable,
		Ingress: n.Spec.Ingress, ConfigFrom: nettypes.ConfigReference{Network: n.Spec.ConfigFrom}, ConfigOnly: n.Spec.ConfigOnly, Labels: n.Spec.Labels}
	if n.Err == "" {
		out.IPAM.Driver = "default"
		if len(n.Spec.IPAMOptions) > 0 {
			out.IPAM.Options = n.Spec.IPAMOptions
		}
	}
	for _, s := range n.IPAM {
		c := nettypes.IPAMConfig{Subnet: prefixOf(s.Subnet), IPRange: prefixOf(s.Range)}
		if gw, err := netip.ParseAddr(s.Gateway); err == nil {
			c.Gateway = gw
		}
		for name, text := range s.Aux {
			if a, err := netip.ParseAddr(text); err == nil {
				if c.AuxAddress == nil {
					c.AuxAddress = map[string]netip.Addr{}
				}
				c.AuxAddress[name] = a
			}
		}
		out.IPAM.Config = append(out.IPAM.Config, c)
	}
	out.Options = map[string]string{}
	maps.Copy(out.Options, n.Spec.Options)
	switch {
	case n.VNI != 0:
		out.Options["com.docker.network.driver.overlay.vxlanid_list"] = strconv.FormatUint(uint64(n.VNI), 10)
	case n.Err != "":
		out.Options = nil
	}
	switch {
	case scopeOf(n) == shoal.ScopeLocal:
		out.Labels = orEmpty(out.Labels)
	case len(out.Labels) == 0:
		out.Labels = nil
	}
	return out
}

func hardwareAddr(text string) nettypes.HardwareAddr {
	hw, err := net.ParseMAC(text)
	if err != nil {
		return nil // an endpoint without one
	}
	return nettypes.HardwareAddr(hw)
}

// peersOf is the nodes that have an endpoint on the network.
func peersOf(table shoal.Table, id shoal.ID) []nettypes.PeerInfo {
	on := map[shoal.ID]bool{table.NodeID: true}
	for _, e := range table.Endpoints {
		if e.NetworkID == id {
			on[e.NodeID] = true
		}
	}
	var out []nettypes.PeerInfo
	for nodeID := range on {
		if p, ok := table.Peers[nodeID]; ok && p.DataAddr.IsValid() {
			out = append(out, nettypes.PeerInfo{Name: nodeID[:min(12, len(nodeID))], IP: p.DataAddr})
		}
	}
	slices.SortFunc(out, func(a, b nettypes.PeerInfo) int { return a.IP.Compare(b.IP) })
	return out
}

func servicesOn(table shoal.Table, id shoal.ID) map[string]nettypes.ServiceInfo {
	out := map[string]nettypes.ServiceInfo{}
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
		info.Tasks = append(info.Tasks, nettypes.Task{Name: e.Name, EndpointID: e.TaskID, EndpointIP: e.Addr.Addr(),
			Info: map[string]string{"Host IP": table.Peers[e.NodeID].DataAddr.String()}})
		out[s.Name] = info
	}
	for _, info := range out {
		slices.SortFunc(info.Tasks, func(a, b nettypes.Task) int { return a.EndpointIP.Compare(b.EndpointIP) })
	}
	return out
}
