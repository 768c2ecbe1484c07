package engine

import (
	"maps"
	"net/http"
	"net/netip"
	"slices"
	"strings"

	apinetwork "github.com/moby/moby/api/types/network"

	"github.com/shoal-dev/shoal/internal/api/server"
	"github.com/shoal-dev/shoal/internal/shoal"
)

// networkCreateRequest is the body of POST /networks/create. Addresses are read as text, so that Docker's words can tell what is
// wrong with them.
type networkCreateRequest struct {
	Name, Driver, Scope                       string
	EnableIPv4, EnableIPv6                    *bool
	Internal, Attachable, Ingress, ConfigOnly bool
	ConfigFrom                                *apinetwork.ConfigReference
	Options, Labels                           map[string]string
	IPAM                                      *struct {
		Driver  string
		Options map[string]string
		Config  []subnetRequest
	}
}

// subnetRequest is a subnet that a request asks for. All fields may be empty.
type subnetRequest struct {
	Subnet, IPRange, Gateway string
	AuxiliaryAddresses       map[string]string
}

func (n *networks) create(w http.ResponseWriter, r *http.Request) error {
	var req networkCreateRequest
	if err := server.ReadJSON(r, &req); err != nil {
		return err
	}
	if strings.TrimSpace(req.Name) == "" {
		return server.BadRequest("invalid name: name is empty")
	}
	if isPredefined(req.Name) {
		return server.Errorf(http.StatusForbidden, "operation is not permitted on predefined %s network ", req.Name)
	}
	spec, err := fromAPINetworkCreate(req)
	if err != nil {
		return err
	}
	var id string
	if !spec.ConfigOnly && (spec.Driver == shoal.DriverOverlay || spec.Scope == shoal.ScopeSwarm || spec.Ingress) {
		id, err = n.cluster.Create(r.Context(), spec, n.local.List())
	} else {
		var net shoal.Network
		net, err = n.local.Create(r.Context(), spec)
		id = string(net.ID)
	}
	if err != nil {
		return err
	}
	return server.WriteJSON(w, http.StatusCreated, apinetwork.CreateResponse{ID: id})
}

func fromAPINetworkCreate(req networkCreateRequest) (shoal.NetworkSpec, error) {
	spec := shoal.NetworkSpec{Name: req.Name, Labels: req.Labels, Driver: req.Driver, Scope: req.Scope, Options: req.Options, EnableIPv4: req.EnableIPv4,
		EnableIPv6: req.EnableIPv6 != nil && *req.EnableIPv6, Internal: req.Internal, Attachable: req.Attachable, Ingress: req.Ingress, ConfigOnly: req.ConfigOnly}
	if spec.Driver == "" || spec.Driver == "default" {
		spec.Driver = shoal.DriverBridge
	}
	if req.ConfigFrom != nil {
		spec.ConfigFrom = req.ConfigFrom.Network
	}
	if err := validateScope(spec); err != nil {
		return spec, err
	}
	if spec.Driver == shoal.DriverOverlay && !spec.ConfigOnly {
		spec.Scope = shoal.ScopeSwarm
	}
	if req.IPAM == nil {
		return spec, nil
	}
	spec.IPAMDriver, spec.IPAMOptions = req.IPAM.Driver, req.IPAM.Options
	var problems []string
	for _, c := range req.IPAM.Config {
		subnet, wrong := fromAPISubnet(c)
		problems = append(problems, wrong...)
		spec.IPAM = append(spec.IPAM, subnet)
	}
	if len(problems) > 0 {
		return spec, server.BadRequest("invalid network config:\n%s", strings.Join(problems, "\n"))
	}
	return spec, nil
}

// validateScope refuses unknown drivers, and a scope that networks of the driver cannot have.
func validateScope(spec shoal.NetworkSpec) error {
	switch {
	case spec.Scope != "" && spec.Scope != shoal.ScopeLocal && spec.Scope != shoal.ScopeSwarm:
		return server.BadRequest("invalid network scope: %q", spec.Scope)
	case spec.ConfigOnly: // the networks that are made from it have the driver
	case spec.Driver == shoal.DriverOverlay && spec.Scope == shoal.ScopeLocal:
		return server.BadRequest("an overlay network cannot have local scope")
	case spec.Driver == shoal.DriverOverlay:
	case spec.Driver == shoal.DriverHost || spec.Driver == shoal.DriverNull:
		return server.Errorf(http.StatusForbidden, "only one instance of %q network is allowed", spec.Driver)
	case spec.Driver != shoal.DriverBridge && spec.Driver != shoal.DriverMacvlan && spec.Driver != shoal.DriverIPvlan:
		return server.Errorf(http.StatusNotFound, "plugin %q not found", spec.Driver)
	case spec.Scope == shoal.ScopeSwarm:
		return server.BadRequest("cannot create a swarm scoped network with the %s driver", spec.Driver)
	case spec.Ingress:
		return server.Errorf(http.StatusForbidden, "only swarm scoped networks can be ingress")
	}
	return nil
}

// fromAPISubnet reads a subnet and returns all that is wrong with it, as Docker lists it. The subnet is complete only if nothing is.
func fromAPISubnet(c subnetRequest) (s shoal.Subnet, problems []string) {
	if c.Subnet == "" {
		if c.IPRange != "" || c.Gateway != "" || len(c.AuxiliaryAddresses) > 0 {
			problems = append(problems, "invalid subnet: there is none for the range, gateway or auxiliary address that was given")
		}
		return s, problems
	}
	var err error
	if s.Subnet, err = netip.ParsePrefix(c.Subnet); err != nil {
		return s, []string{"invalid subnet " + c.Subnet + ": invalid CIDR block notation"}
	}
	if s.Subnet != s.Subnet.Masked() {
		problems = append(problems, "invalid subnet "+c.Subnet+": it should be "+s.Subnet.Masked().String())
	}
	var problem string
	if c.IPRange != "" {
		if s.Range, problem = fromAPIRange(s.Subnet, c.IPRange); problem != "" {
			problems = append(problems, "invalid ip-range "+c.IPRange+": "+problem)
		}
	}
	if c.Gateway != "" {
		if s.Gateway, problem = fromAPIAddress(s.Subnet, c.Gateway); problem != "" {
			problems = append(problems, "invalid gateway "+c.Gateway+": "+problem)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(c.AuxiliaryAddresses)) {
		addr, problem := fromAPIAddress(s.Subnet, c.AuxiliaryAddresses[name])
		if problem != "" {
			problems = append(problems, "invalid auxiliary address "+name+": "+problem)
			continue
		}
		if s.Aux == nil {
			s.Aux = map[string]netip.Addr{}
		}
		s.Aux[name] = addr
	}
	return s, problems
}

// fromAPIRange reads the range of a subnet; problem is empty if it is valid.
func fromAPIRange(subnet netip.Prefix, text string) (r netip.Prefix, problem string) {
	r, err := netip.ParsePrefix(text)
	switch {
	case err != nil:
		return r, "invalid CIDR block notation"
	case r.Bits() < subnet.Bits():
		return r, "CIDR block is bigger than its parent subnet " + subnet.String()
	case !subnet.Contains(r.Addr()):
		return r, "parent subnet " + subnet.String() + " doesn't contain ip-range"
	case r != r.Masked():
		return r, "it should be " + r.Masked().String()
	}
	return r, ""
}

// fromAPIAddress reads an address of a subnet; problem is empty if it is valid.
func fromAPIAddress(subnet netip.Prefix, text string) (addr netip.Addr, problem string) {
	addr, err := netip.ParseAddr(text)
	switch {
	case err != nil:
		return addr, "invalid address"
	case !subnet.Contains(addr):
		return addr, "parent subnet " + subnet.String() + " doesn't contain this address"
	}
	return addr, ""
}
