package plan

import (
	"strings"

	"github.com/shoal-dev/shoal/internal/dataplane"
	"github.com/shoal-dev/shoal/internal/network/sandbox"
)

// links is what a container may reach by its links on a bridge whose containers do not talk to each other: the ports that the targets expose.
func (p *Planner) links(sb *sandbox.Sandbox) []dataplane.Link {
	var out []dataplane.Link
	for _, text := range sb.Spec.Links {
		ref, _, _ := strings.Cut(strings.TrimPrefix(text, "/"), ":")
		target := p.Sandboxes.Find(ref)
		if target == nil || !target.Active {
			continue
		}
		for _, e := range sb.Endpoints {
			for _, theirs := range target.Endpoints {
				if e.Bridge == "" || e.Bridge != theirs.Bridge || e.OnGatewayBridge() || !e.Info.Addr.IsValid() || !theirs.Info.Addr.IsValid() {
					continue
				}
				for _, port := range target.Spec.Exposed {
					out = append(out, dataplane.Link{Bridge: e.Bridge, From: e.Info.Addr.Addr(), To: theirs.Info.Addr.Addr(), Protocol: port.Protocol, Port: port.Target})
				}
			}
		}
	}
	return out
}
