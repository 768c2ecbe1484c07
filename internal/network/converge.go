package network

import (
	"context"
	"errors"
	"net/netip"

	"github.com/shoal-dev/shoal/internal/dataplane"
	"github.com/shoal-dev/shoal/internal/dns"
	"github.com/shoal-dev/shoal/internal/network/etcfiles"
	"github.com/shoal-dev/shoal/internal/network/names"
	"github.com/shoal-dev/shoal/internal/network/sandbox"
	"github.com/shoal-dev/shoal/internal/shoal"
)

// wanted is what kernel and resolvers are to have.
type wanted struct {
	generation uint64
	config     *dataplane.Config
	names      []names.Update
	scopes     map[*dns.Resolver]*dns.Scope
}

// change notes that the wanted state has changed, and returns its generation.
func (n *Networks) change() uint64 {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.generation++
	return n.generation
}

// converge brings kernel and resolvers to what is wanted now. Calls that come while one is at work are served by one next.
func (n *Networks) converge(ctx context.Context) error {
	target := n.change()
	n.applyMu.Lock()
	defer n.applyMu.Unlock()
	if n.appliedGeneration >= target {
		return n.applyErr
	}
	w := n.wanted()
	// One Apply serves several callers: the first one's cancellation must not stop it half-way.
	n.applyErr = n.plane.Apply(context.WithoutCancel(ctx), w.config)
	n.appliedGeneration = w.generation
	for _, u := range w.names {
		u.Apply()
	}
	for resolver, scope := range w.scopes {
		resolver.Set(scope)
	}
	return n.applyErr
}

// wanted derives all that is wanted now, and brings the port reservations of the routing mesh up to date.
func (n *Networks) wanted() wanted {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, sb := range n.sandboxes.All() {
		n.names.SetSandbox(sb)
	}
	n.directory.SetLocalTasks(n.sandboxes.MeshTasks())
	w := wanted{generation: n.generation, config: n.planner.Config()}
	n.ports.SetMesh(n.directory.MeshPorts())
	w.scopes, w.names = n.scopesLocked(), n.names.Updates()
	return w
}

// scopesLocked is what every sandbox's resolver answers from.
func (n *Networks) scopesLocked() map[*dns.Resolver]*dns.Scope {
	servers, services := etcfiles.ReadHostResolver(n.cfg.ResolvConf).Servers, n.directory.Table().Services
	out := map[*dns.Resolver]*dns.Scope{}
	for _, sb := range n.sandboxes.All() {
		if sb.Resolver != nil {
			out[sb.Resolver] = n.names.Scope(sb, services[sb.Spec.ServiceID].Stack, servers, n.subnetsOfLocked)
		}
	}
	return out
}

// subnetsOfLocked is the subnets of an endpoint's network.
func (n *Networks) subnetsOfLocked(e *sandbox.Endpoint) []netip.Prefix {
	var subnets []shoal.Subnet
	if l := n.local.Get(e.Info.NetworkID); l != nil {
		subnets = l.IPAM
	} else if net, ok := n.directory.Table().Networks[shoal.NetworkID(e.Overlay)]; ok {
		subnets = net.IPAM
	} else if e.Network != nil {
		subnets = e.Network.IPAM
	}
	var out []netip.Prefix
	for _, s := range subnets {
		if s.Subnet.IsValid() {
			out = append(out, s.Subnet)
		}
	}
	return out
}

// convergeSandbox is converge for the sake of one sandbox.
func (n *Networks) convergeSandbox(ctx context.Context, namespace string) error {
	return n.convergePart(ctx, dataplane.SandboxPrefix+namespace)
}

// convergePart is converge for the sake of one part of the config, named as in a dataplane.PartError: it returns what concerns that one, and logs the
// rest, which Run tries again.
func (n *Networks) convergePart(ctx context.Context, name string) error {
	err := n.converge(ctx)
	if err == nil {
		return nil
	}
	var parts interface{ Unwrap() []error }
	if !errors.As(err, &parts) {
		return err
	}
	var mine error
	for _, e := range parts.Unwrap() {
		var part *dataplane.PartError
		if errors.As(e, &part) && part.Part == name {
			mine = errors.Join(mine, part.Err)
			continue
		}
		n.logFailure(e)
	}
	return mine
}

func (n *Networks) logFailure(err error) {
	n.log.Warn("part of the network could not be applied; the rest was, and it is tried again", "err", err)
}
