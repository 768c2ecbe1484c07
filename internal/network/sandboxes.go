package network

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/containerd/errdefs"

	"github.com/shoal-dev/shoal/internal/dns"
	"github.com/shoal-dev/shoal/internal/network/etcfiles"
	"github.com/shoal-dev/shoal/internal/network/sandbox"
	"github.com/shoal-dev/shoal/internal/shoal"
)

// lockSandbox returns the container's sandbox, locked. If there is none it returns a new one if create is set, else nil.
func (n *Networks) lockSandbox(containerID string, create bool) *sandbox.Sandbox {
	for {
		n.mu.Lock()
		sb := n.sandboxes.Get(containerID)
		if create {
			sb = n.sandboxes.GetOrCreate(containerID)
		}
		n.mu.Unlock()
		if sb == nil || sb.Lock() {
			return sb
		}
	}
}

// Up gives the container its sandbox. If it has one, that is returned as it is. It may wait for the table that has the
// sandbox's cluster networks.
func (n *Networks) Up(ctx context.Context, spec shoal.SandboxSpec) (shoal.Sandbox, error) {
	spec = n.withDefaults(spec)
	if spec.Mode == "host" {
		var s shoal.Sandbox
		dir := n.records.Dir(spec.ContainerID)
		etcfiles.SetPaths(&s, dir)
		return s, etcfiles.CopyHost(dir, spec, n.cfg.ResolvConf)
	}
	if other, ok := strings.CutPrefix(spec.Mode, "container:"); ok {
		return n.SandboxOf(other)
	}
	up, err := n.upSandbox(ctx, spec)
	if err == nil {
		n.relink(spec.ContainerID)
	}
	return up, err
}

// upSandbox is Up for a container that gets a namespace of its own.
func (n *Networks) upSandbox(ctx context.Context, spec shoal.SandboxSpec) (shoal.Sandbox, error) {
	sb := n.lockSandbox(spec.ContainerID, true)
	defer sb.Unlock()
	if n.plane.Exists(sandbox.Namespace(spec.ContainerID)) && sb.Spec.Mode != "" {
		if err := n.convergeSandbox(ctx, sb.Namespace()); err != nil {
			return shoal.Sandbox{}, err
		}
		return n.SandboxOf(spec.ContainerID)
	}
	if err := n.createSandbox(ctx, sb, spec); err != nil {
		return shoal.Sandbox{}, errors.Join(err, n.deleteSandbox(context.WithoutCancel(ctx), sb))
	}
	return n.SandboxOf(spec.ContainerID)
}

func (n *Networks) createSandbox(ctx context.Context, sb *sandbox.Sandbox, spec shoal.SandboxSpec) error {
	if spec.Mode == "" || spec.Mode == "default" {
		spec.Mode = shoal.DefaultBridgeName
	}
	n.mu.Lock()
	sb.Spec = spec
	n.mu.Unlock()
	if _, err := n.plane.Namespace(sb.Namespace()); err != nil {
		return err
	}
	for _, req := range sandbox.RequestedEndpoints(spec) {
		if err := n.addEndpoint(ctx, sb, req); err != nil {
			return err
		}
	}
	if err := n.addGatewayBridge(sb); err != nil {
		return err
	}
	if spec.IngressAddr.IsValid() {
		n.addIngress(sb)
	}
	if err := n.reservePorts(sb); err != nil {
		return err
	}
	if err := n.openResolver(sb); err != nil {
		return err
	}
	if err := n.writeFiles(sb); err != nil {
		return err
	}
	if err := n.saveSandbox(sb); err != nil {
		return err
	}
	n.mu.Lock()
	sb.Active = true
	n.mu.Unlock()
	return n.convergeSandbox(ctx, sb.Namespace())
}

// reservePorts reserves the node's ports that the sandbox publishes.
func (n *Networks) reservePorts(sb *sandbox.Sandbox) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	sb.Ports = nil
	hostIP, translates := n.publishedAt(sb), n.translatesLocked(sb)
	for _, want := range sb.Spec.Ports {
		if !want.HostIP.IsValid() {
			want.HostIP = hostIP
		}
		if !translates {
			want.HostIP, want.HostPort, want.HostPortEnd = netip.IPv4Unspecified(), 0, 0
			sb.Ports = append(sb.Ports, want)
			continue
		}
		bound, err := n.ports.Reserve(want, sb.Spec.ContainerID)
		if err != nil {
			endpoint := ""
			for _, e := range sb.Endpoints {
				if e.Bridge != "" {
					endpoint = e.Info.EndpointID
				}
			}
			return fmt.Errorf("driver failed programming external connectivity on endpoint %s (%s): %w", sb.Spec.Name, endpoint, err)
		}
		sb.Ports = append(sb.Ports, bound)
	}
	return nil
}

// openResolver starts the embedded resolver in the sandbox, if it uses one.
func (n *Networks) openResolver(sb *sandbox.Sandbox) error {
	n.mu.Lock()
	need := sb.Resolver == nil && sb.Endpoints.UseResolver()
	n.mu.Unlock()
	if !need {
		return nil
	}
	r, err := dns.Open(dns.Config{Log: n.log, Forwarder: n.forwarder, Enter: func(f func() error) error { return n.plane.Inside(sb.Namespace(), f) }})
	if err != nil {
		return err
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	sb.Resolver = r
	return nil
}

// writeFiles writes the files that the container finds in /etc.
func (n *Networks) writeFiles(sb *sandbox.Sandbox) error {
	spec, endpoints := sb.Spec, slices.Clone(sb.Endpoints) // the sandbox is locked
	links, err := n.linkHosts(sb)
	if err != nil {
		return err
	}
	host := etcfiles.ReadHostResolver(n.cfg.ResolvConf)
	return etcfiles.Write(n.records.Dir(spec.ContainerID), spec, endpoints, host, links)
}

// linkHosts is the lines of the hosts file for the sandbox's links.
func (n *Networks) linkHosts(sb *sandbox.Sandbox) (string, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.sandboxes.LinkHosts(sb)
}

// saveSandbox writes the sandbox's record.
func (n *Networks) saveSandbox(sb *sandbox.Sandbox) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.records.Save(sb)
}

// Down takes the container's sandbox away. It is no error if there is none.
func (n *Networks) Down(ctx context.Context, containerID string) error {
	sb := n.lockSandbox(containerID, false)
	if sb == nil {
		if err := os.RemoveAll(n.records.Dir(containerID)); err != nil {
			return fmt.Errorf("remove network files: %w", err)
		}
		return nil
	}
	defer sb.Unlock()
	return n.deleteSandbox(ctx, sb)
}

// forgetSandbox takes a sandbox, which is locked, out of all tables, and returns what it had.
func (n *Networks) forgetSandbox(sb *sandbox.Sandbox) (*dns.Resolver, sandbox.Endpoints) {
	n.mu.Lock()
	defer n.mu.Unlock()
	id := sb.Spec.ContainerID
	sb.MarkDeleted()
	n.sandboxes.Delete(id)
	n.names.RemoveSandbox(id)
	n.ports.Release(id)
	resolver, endpoints := sb.Resolver, sb.Endpoints
	sb.Resolver, sb.Endpoints, sb.Ports = nil, nil, nil
	for _, e := range endpoints {
		n.releaseLocked(e)
	}
	return resolver, endpoints
}

func (n *Networks) deleteSandbox(ctx context.Context, sb *sandbox.Sandbox) error {
	id := sb.Spec.ContainerID
	var errs []error
	resolver, endpoints := n.forgetSandbox(sb)
	if resolver != nil {
		errs = append(errs, resolver.Close())
	}
	for _, e := range endpoints {
		errs = append(errs, n.detach(ctx, e))
	}
	n.plane.Release(sb.Namespace())
	errs = append(errs, os.RemoveAll(n.records.Dir(id)), n.convergeSandbox(ctx, sb.Namespace()))
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("remove sandbox of %s: %w", sb.Namespace(), err)
	}
	return nil
}

// restoreSandboxes takes over the sandboxes that were there before the daemon was restarted.
func (n *Networks) restoreSandboxes() {
	for _, sb := range n.records.Load(n.log, n.plane.Exists, n.cfg.Quarantine.SetAside) {
		n.sandboxes.Add(sb)
		n.restoreSandbox(sb)
		if err := n.openResolver(sb); err != nil {
			n.cfg.Quarantine.Retry("names for container "+sb.Spec.Name, err, func(ctx context.Context) error {
				return n.reopenResolver(ctx, sb)
			})
		}
	}
}

// reopenResolver opens the resolver that a restored sandbox could not have, unless the sandbox is gone.
func (n *Networks) reopenResolver(ctx context.Context, sb *sandbox.Sandbox) error {
	if !sb.Lock() {
		return nil
	}
	defer sb.Unlock()
	if err := n.openResolver(sb); err != nil {
		return err
	}
	return n.convergeSandbox(ctx, sb.Namespace())
}

// restoreSandbox takes what the sandbox has of the node: its namespace, addresses and ports.
func (n *Networks) restoreSandbox(sb *sandbox.Sandbox) {
	if _, err := n.plane.Namespace(sb.Namespace()); err != nil { // it exists, or Load had left it out
		n.log.Warn("namespace of a container cannot be taken over", "container", sb.Spec.ContainerID, "err", err)
	}
	for _, e := range sb.Endpoints {
		if l := n.local.Get(e.Info.NetworkID); l != nil {
			l.Reserve(e.Info.Addr, e.Info.Addr6)
		}
	}
	for _, p := range sb.Ports {
		if p.HostPort == 0 {
			continue // it is reached at the container's own address
		}
		if _, err := n.ports.Reserve(p, sb.Spec.ContainerID); err != nil {
			n.log.Warn("published port was taken while the daemon was away", "port", p.HostPort, "err", err)
		}
	}
}

// SandboxOf returns the container's sandbox, ErrNotFound if it has none.
func (n *Networks) SandboxOf(containerID string) (shoal.Sandbox, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	sb := n.sandboxes.Get(containerID)
	if sb == nil {
		return shoal.Sandbox{}, errdefs.ErrNotFound.WithMessage(fmt.Sprintf("container %s has no sandbox", containerID))
	}
	s := shoal.Sandbox{Netns: filepath.Join(n.cfg.ExecRoot, "netns", sb.Namespace()), Ports: n.shownPortsLocked(sb)}
	for _, e := range sb.Endpoints {
		if !e.OnGatewayBridge() {
			s.Endpoints = append(s.Endpoints, e.Info)
		}
	}
	etcfiles.SetPaths(&s, n.records.Dir(containerID))
	return s, nil
}
