package dispatcher

import (
	"slices"

	"github.com/shoal-dev/shoal/internal/shoal"
)

// meshPorts is the service's ports on the routing mesh with their rules. Rules belong to the spec, ports to the allocator, who may
// not have come to the newest spec yet: a port that the spec no longer asks for has no rule and is left out, lest it stands open.
func meshPorts(s *shoal.Service) []shoal.MeshPort {
	if s.Spec.Endpoint == nil {
		return nil
	}
	asked := s.Spec.Endpoint.Ports
	rules, err := shoal.PublishRules(s.Spec.Labels, asked)
	if err != nil {
		return nil // the API lets no wrong rule in
	}
	var out []shoal.MeshPort
	for _, p := range s.Endpoint.Ports {
		chosen := p
		chosen.Published = 0 // a number of the allocator's choice
		if p.Mode == shoal.PublishIngress && (slices.Contains(asked, p) || slices.Contains(asked, chosen)) {
			out = append(out, shoal.MeshPort{Port: p, Rule: rules[p]})
		}
	}
	return out
}
