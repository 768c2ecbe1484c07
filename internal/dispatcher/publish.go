package dispatcher

import (
	"slices"

	"github.com/shoal-dev/shoal/internal/shoal"
)

// meshPorts is the service's ports on the routing mesh with their rules. The rules come from the spec, the ports from the
// allocator, which may not have handled the newest spec yet. A port that the spec no longer asks for is therefore left out:
// without its rule it would be open to everybody.
func meshPorts(s *shoal.Service) []shoal.MeshPort {
	if s.Spec.Endpoint == nil {
		return nil
	}
	asked := s.Spec.Endpoint.Ports
	rules, err := shoal.PublishRules(s.Spec.Labels, asked)
	if err != nil {
		return nil // cannot happen: the API refuses a spec with invalid rules
	}
	var out []shoal.MeshPort
	for _, p := range s.Endpoint.Ports {
		chosen := p
		chosen.Published = 0 // the form that the spec has if it left the choice to the allocator
		if p.Mode == shoal.PublishIngress && (slices.Contains(asked, p) || slices.Contains(asked, chosen)) {
			out = append(out, shoal.MeshPort{Port: p, Rule: rules[p]})
		}
	}
	return out
}
