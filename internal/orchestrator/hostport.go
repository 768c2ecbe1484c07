package orchestrator

import (
	"fmt"
	"slices"

	"github.com/shoal-dev/shoal/internal/shoal"
)

// portConflict tells why a replacement cannot start before the tasks that it replaces: no node that may run it has the
// host-mode ports free. It is empty when one has.
func (p *plan) portConflict(at progress) string {
	port := p.hostPort()
	if port == nil || len(at.old) == 0 {
		return ""
	}
	for _, n := range p.eligible() {
		if (at.key.node == "" || at.key.node == n.ID) && takesTasks(n) && !p.portTaken(n) {
			return ""
		}
	}
	return fmt.Sprintf("host-mode port %d/%s is in use on every node that could run it", port.Published, port.Protocol)
}

// hostPort is the first of the service's ports that a node can give to one task only, nil if there is none.
func (p *plan) hostPort() *shoal.Port {
	if p.service.Spec.Endpoint == nil {
		return nil
	}
	ports := p.service.Spec.Endpoint.Ports
	if i := slices.IndexFunc(ports, onHost); i >= 0 {
		return &ports[i]
	}
	return nil
}

func onHost(port shoal.Port) bool { return port.Mode == shoal.PublishHost && port.Published != 0 }

// portTaken tells whether a task on a node has one of the service's host-mode ports.
func (p *plan) portTaken(n *shoal.Node) bool {
	return slices.ContainsFunc(p.view.TasksOnNode(n.ID), func(t *shoal.Task) bool {
		return !t.Status.State.Ended() && slices.ContainsFunc(t.Ports, func(has shoal.Port) bool {
			return onHost(has) && slices.ContainsFunc(p.service.Spec.Endpoint.Ports, func(want shoal.Port) bool {
				return onHost(want) && want.Published == has.Published && want.Protocol == has.Protocol
			})
		})
	})
}

func takesTasks(n *shoal.Node) bool {
	return n.Spec.Availability == shoal.AvailabilityActive || n.Spec.Availability == ""
}
