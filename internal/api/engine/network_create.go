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
		Config  []struct {
			Subnet, IPRange, Gateway string
			AuxiliaryAddresses       map[string]string
		}
	}
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
	switch {
	case spec.Scope != "" && spec.Scope != shoal.ScopeLocal && spec.Scope != shoal.ScopeSwarm:
		return spec, server.BadRequest("invalid network scope: %q", spec.Scope)
	case spec.ConfigOnly: // the networks made from it have the driver
	case spec.Driver == shoal.DriverOverlay && spec.Scope == shoal.ScopeLocal:
		return spec, server.BadRequest("an overlay network cannot have local scope")
	case spec.Driver == shoal.DriverOverlay:
		spec.Scope = shoal.ScopeSwarm
	case spec.Driver != shoal.DriverBridge && spec.Driver != shoal.DriverMacvlan:
		return spec, server.Errorf(http.StatusNotFound, "plugin %q not found", spec.Driver)
	case spec.Scope == shoal.ScopeSwarm:
		return spec, server.BadRequest("cannot create a swarm scoped network with the %s driver", spec.Driver)
	case spec.Ingress:
		return spec, server.Errorf(http.StatusForbidden, "only swarm scoped networks can be ingress")
	}
	if req.IPAM == nil {
		return spec, nil
	}
	spec.IPAMDriver, spec.IPAMOptions = req.IPAM.Driver, req.IPAM.Options
	var wrong []string
	for _, c := range req.IPAM.Config {
		subnet, problems := fromAPISubnet(c.Subnet, c.IPRange, c.Gateway, c.AuxiliaryAddresses)
		wrong = append(wrong, problems...)
		spec.IPAM = append(spec.IPAM, subnet)
	}
	if len(wrong) > 0 {
		return spec, server.BadRequest("invalid network config:\n%s", strings.Join(wrong, "\n"))
	}
	return spec, nil
}

// fromAPISubnet reads a subnet and returns everything that is wrong with it, as Docker lists it. The subnet is complete only if
// nothing is.
func fromAPISubnet(subnet, ipRange, gateway string, auxiliary map[string]string) (s shoal.Subnet, wrong []string) {
	if subnet == "" {
		if ipRange != "" || gateway != "" || len(auxiliary) > 0 {
			return s, []string{"invalid subnet: there is none for the range, gateway or auxiliary address that was given"}
		}
		return s, nil
	}
	var err error
	if s.Subnet, err = netip.ParsePrefix(subnet); err != nil {
		return s, []string{"invalid subnet " + subnet + ": invalid CIDR block notation"}
	}
	if s.Subnet != s.Subnet.Masked() {
		wrong = append(wrong, "invalid subnet "+subnet+": it should be "+s.Subnet.Masked().String())
	}
	if ipRange != "" {
		s.Range, err = netip.ParsePrefix(ipRange)
		switch {
		case err != nil:
			wrong = append(wrong, "invalid ip-range "+ipRange+": invalid CIDR block notation")
		case s.Range.Bits() < s.Subnet.Bits():
			wrong = append(wrong, "invalid ip-range "+ipRange+": CIDR block is bigger than its parent subnet "+subnet)
		case !s.Subnet.Contains(s.Range.Addr()):
			wrong = append(wrong, "invalid ip-range "+ipRange+": parent subnet "+subnet+" doesn't contain ip-range")
		case s.Range != s.Range.Masked():
			wrong = append(wrong, "invalid ip-range "+ipRange+": it should be "+s.Range.Masked().String())
		}
	}
	if gateway != "" {
		s.Gateway, err = netip.ParseAddr(gateway)
		switch {
		case err != nil:
			wrong = append(wrong, "invalid gateway "+gateway+": invalid address")
		case !s.Subnet.Contains(s.Gateway):
			wrong = append(wrong, "invalid gateway "+gateway+": parent subnet "+subnet+" doesn't contain this address")
		}
	}
	for _, name := range slices.Sorted(maps.Keys(auxiliary)) {
		addr, err := netip.ParseAddr(auxiliary[name])
		switch {
		case err != nil:
			wrong = append(wrong, "invalid auxiliary address "+name+": invalid address")
		case !s.Subnet.Contains(addr):
			wrong = append(wrong, "invalid auxiliary address "+name+": parent subnet "+subnet+" doesn't contain this address")
		default:
			if s.Aux == nil {
				s.Aux = map[string]netip.Addr{}
			}
			s.Aux[name] = addr
		}
	}
	return s, wrong
}
