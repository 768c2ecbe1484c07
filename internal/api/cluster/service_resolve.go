package cluster

import (
	"net/http"
	"slices"
	"strconv"

	"github.com/shoal-dev/shoal/internal/api/server"
	"github.com/shoal-dev/shoal/internal/shoal"
	"github.com/shoal-dev/shoal/internal/store"
)

// resolveReferences returns the container with the present generation of each secret and config that it refers to. It refuses
// references to those that do not exist.
func resolveReferences(v store.View, c *shoal.ContainerSpec) (*shoal.ContainerSpec, error) {
	if c == nil {
		return nil, nil
	}
	next := *c
	next.Secrets, next.Configs = slices.Clone(c.Secrets), slices.Clone(c.Configs)
	for i, ref := range next.Secrets {
		secret := v.Secret(ref.ID)
		if secret == nil {
			return nil, shoal.InvalidArgument("secret not found: %s", ref.Name)
		}
		next.Secrets[i].Generation = secret.Generation
	}
	for i, ref := range next.Configs {
		config := v.Config(ref.ID)
		if config == nil {
			return nil, shoal.InvalidArgument("config not found: %s", ref.Name)
		}
		next.Configs[i].Generation = config.Generation
	}
	return &next, nil
}

// resolveNetworks returns the attachments with the IDs of networks instead of their names. Networks that every node has of its
// own, such as "host", keep their names.
func resolveNetworks(v store.View, asked []shoal.NetworkAttachmentSpec) ([]shoal.NetworkAttachmentSpec, error) {
	out := slices.Clone(asked)
	for i, a := range out {
		if shoal.IsNodeNetwork(a.Target) {
			if len(out) > 1 || len(a.Aliases)+len(a.DriverOpts) > 0 {
				return nil, server.BadRequest("a service on network %s can be on no other, and has no aliases and driver options there", strconv.Quote(a.Target))
			}
			continue
		}
		if err := (shoal.EndpointRequest{DriverOpts: a.DriverOpts}).Validate(); err != nil {
			return nil, err
		}
		n, err := findNetwork(v, a.Target)
		if err != nil {
			return nil, err
		}
		if n.Spec.Ingress {
			return nil, shoal.InvalidArgument("Service cannot be explicitly attached to the ingress network %s", strconv.Quote(n.Spec.Name))
		}
		if n.Err != "" {
			return nil, server.Errorf(http.StatusConflict, "network %s has no subnet: %s", n.Spec.Name, n.Err)
		}
		out[i].Target = string(n.ID)
	}
	return out, nil
}

// validateIngressNetwork refuses ports published on the routing mesh while there is no ingress network.
func validateIngressNetwork(v store.View, spec *shoal.EndpointSpec) error {
	if spec.HasIngressPort() && v.IngressNetwork() == nil {
		return shoal.FailedPrecondition("service needs ingress network, but no ingress network is present")
	}
	return nil
}
