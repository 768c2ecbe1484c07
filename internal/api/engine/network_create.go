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
		id = net.ID
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
		problems = append(problems, validateSubnet(c)...)
		spec.IPAM = append(spec.IPAM, shoal.Subnet{Subnet: c.Subnet, Range: c.IPRange, Gateway: c.Gateway, Aux: c.AuxiliaryAddresses})
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
	case spec.Driver != shoal.DriverBridge && spec.Driver != shoal.DriverMacvlan:
		return server.Errorf(http.StatusNotFound, "plugin %q not found", spec.Driver)
	case spec.Scope == shoal.ScopeSwarm:
		return server.BadRequest("cannot create a swarm scoped network with the %s driver", spec.Driver)
	case spec.Ingress:
		return server.Errorf(http.StatusForbidden, "only swarm scoped networks can be ingress")
	}
	return nil
}

// validateSubnet returns all that is wrong with a subnet, as Docker lists it.
func validateSubnet(c subnetRequest) []string {
	if c.Subnet == "" {
		if c.IPRange != "" || c.Gateway != "" || len(c.AuxiliaryAddresses) > 0 {
			return []string{"invalid subnet: there is none for the range, gateway or auxiliary address that was given"}
		}
		return nil
	}
	subnet, err := netip.ParsePrefix(c.Subnet)
	if err != nil {
		return []string{"invalid subnet " + c.Subnet + ": invalid CIDR block notation"}
	}
	var problems []string
	if subnet != subnet.Masked() {
		problems = append(problems, "invalid subnet "+c.Subnet+": it should be "+subnet.Masked().String())
	}
	if c.IPRange != "" {
		if problem := rangeProblem(subnet, c.Subnet, c.IPRange); problem != "" {
			problems = append(problems, "invalid ip-range "+c.IPRange+": "+problem)
		}
	}
	if c.Gateway != "" {
		if problem := addressProblem(subnet, c.Subnet, c.Gateway); problem != "" {
			problems = append(problems, "invalid gateway "+c.Gateway+": "+problem)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(c.AuxiliaryAddresses)) {
		if problem := addressProblem(subnet, c.Subnet, c.AuxiliaryAddresses[name]); problem != "" {
			problems = append(problems, "invalid auxiliary address "+name+": "+problem)
		}
	}
	return problems
}

// rangeProblem is what is wrong with the range of a subnet, which is shown as the user wrote it; empty if nothing is.
func rangeProblem(subnet netip.Prefix, shown, text string) string {
	r, err := netip.ParsePrefix(text)
	switch {
	case err != nil:
		return "invalid CIDR block notation"
	case r.Bits() < subnet.Bits():
		return "CIDR block is bigger than its parent subnet " + shown
	case !subnet.Contains(r.Addr()):
		return "parent subnet " + shown + " doesn't contain ip-range"
	case r != r.Masked():
		return "it should be " + r.Masked().String()
	}
	return ""
}

// addressProblem is what is wrong with an address of a subnet, which is shown as the user wrote it; empty if nothing is.
func addressProblem(subnet netip.Prefix, shown, text string) string {
	addr, err := netip.ParseAddr(text)
	switch {
	case err != nil:
		return "invalid address"
	case !subnet.Contains(addr):
		return "parent subnet " + shown + " doesn't contain this address"
	}
	return ""
}
