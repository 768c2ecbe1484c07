package orchestrator

import (
	"fmt"
	"slices"

	"github.com/shoal-dev/shoal/internal/shoal"
)

// hostPortConflict says why a replacement cannot start before the tasks it replaces stop: the host-mode ports are in use on every
// node that may run it. It is empty if there is a node with free ports.
func (p *plan) hostPortConflict(at progress) string {
	port := p.hostPort()
	if port == nil || len(at.old) == 0 {
		return ""
	}
	for _, n := range p.eligible() {
		if (at.key.node == "" || at.key.node == n.ID) && takesTasks(n) && !p.hostPortTaken(n) {
			return ""
		}
	}
	return fmt.Sprintf("host-mode port %d/%s is in use on every node that could run it", port.Published, port.Protocol)
}

// hostPort is the first host-mode port of the service with a fixed number, which only one task per node can have; nil if there
// is none.
func (p *plan) hostPort() *shoal.Port {
	if p.service.Spec.Endpoint == nil {
		return nil
	}
	ports := p.service.Spec.Endpoint.Ports
	if i := slices.IndexFunc(ports, isHostPort); i >= 0 {
		return &ports[i]
	}
	return nil
}

func isHostPort(port shoal.Port) bool { return port.Mode == shoal.PublishHost && port.Published != 0 }

// hostPortTaken tells whether a task on a node has one of the service's host-mode ports.
func (p *plan) hostPortTaken(n *shoal.Node) bool {
	return slices.ContainsFunc(p.view.TasksOnNode(n.ID), func(t *shoal.Task) bool { return notEnded(t) && p.hasHostPort(t) })
}

// hasHostPort tells whether a task has one of the service's host-mode ports.
func (p *plan) hasHostPort(t *shoal.Task) bool {
	return p.service.Spec.Endpoint != nil && slices.ContainsFunc(t.Ports, func(has shoal.Port) bool {
		return isHostPort(has) && slices.ContainsFunc(p.service.Spec.Endpoint.Ports, func(want shoal.Port) bool {
			return isHostPort(want) && want.Published == has.Published && want.Protocol == has.Protocol
		})
	})
}

func takesTasks(n *shoal.Node) bool {
	return n.Spec.Availability == shoal.AvailabilityActive || n.Spec.Availability == ""
}
