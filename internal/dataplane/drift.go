package dataplane

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"time"
)

// thoroughEvery is at how many calls of Drift one is thorough by itself: an entry may have been changed, of which no notification tells.
const thoroughEvery = 30

// Drift compares the kernel with what was applied. It returns the parts that others have changed, named as in a PartError and sorted, and forgets them, so
// that the next Apply makes them anew. A thorough look compares all entries. One that is not compares only those of which the kernel has said
// that one was removed; every thirtieth is thorough all the same. What lingers of sandboxes that are gone is removed.
func (p *Plane) Drift(thorough bool) []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	if err := p.sandboxes.Sweep(time.Now()); err != nil {
		p.log.Warn("an interface of a container that has ended cannot be removed; it goes when the container's last connection does", "err", err)
	}
	thorough = thorough || p.driftCalls%thoroughEvery == 0
	p.driftCalls++
	var parts []string
	bridges := p.bridges.Drifted()
	for _, name := range bridges {
		parts = append(parts, bridgePart(name))
	}
	if p.wireguard.Drifted(thorough) {
		parts = append(parts, PartWireGuard)
	}
	if p.mesh.Drifted(thorough) {
		parts = append(parts, PartIngress)
	}
	if p.table.Drifted() {
		parts = append(parts, PartPorts)
	}
	overlays := p.overlays.Drifted(thorough)
	for _, id := range overlays {
		parts = append(parts, overlayPart(id))
	}
	for _, name := range p.sandboxes.Drifted(bridges, overlays) {
		parts = append(parts, sandboxPart(name))
	}
	slices.Sort(parts)
	return parts
}

// Parts counts what Drift looks at.
func (p *Plane) Parts() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	count := p.bridges.Len() + p.overlays.Len() + p.sandboxes.Len()
	for _, applied := range []bool{p.wireguard.Applied(), p.mesh.Applied(), p.table.Applied()} {
		if applied {
			count++
		}
	}
	return count
}

// ResetConnections ends the connections that this node's containers, and clients through this node, have to addresses of dead nodes, which can tell
// nobody that they are gone. dead is by the ID of the overlay that the addresses are on; those under "" are on the routing mesh. Flows are
// forgotten, whereupon whoever sends next is answered with a reset. Containers' sockets are closed by the kernel, so that those that only wait learn
// it too; where it cannot (CONFIG_INET_DIAG_DESTROY), they end by their own timeouts, and a log line says so. The error joins one PartError per part
// that failed.
func (p *Plane) ResetConnections(ctx context.Context, dead map[string][]netip.Addr) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	var failed failures
	failed.note(PartPorts, p.table.ForgetDead(dead[""]))
	parallel(ctx, p.sandboxes.Names(), func(name string) {
		failed.note(sandboxPart(name), p.sandboxes.ResetConnections(name, dead))
	})
	return errors.Join(failed.errs...)
}
