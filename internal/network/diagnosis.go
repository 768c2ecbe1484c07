package network

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/shoal-dev/shoal/internal/dataplane"
	"github.com/shoal-dev/shoal/internal/dns"
	"github.com/shoal-dev/shoal/internal/shoal"
)

// maxRepairs is how many of the latest repairs Diagnose reports.
const maxRepairs = 100

// repairs counts and lists the kernel state that was restored after other programs had changed it.
type repairs struct {
	mu    sync.Mutex // guards what follows
	count uint64
	last  []shoal.Repair
}

func (r *repairs) add(what []string, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, w := range what {
		one := shoal.Repair{At: time.Now(), What: w}
		if err != nil {
			one.Err = err.Error()
		}
		r.last = append(r.last, one)
	}
	r.count += uint64(len(what))
	r.last = r.last[max(0, len(r.last)-maxRepairs):]
}

func (r *repairs) list() (count uint64, last []shoal.Repair) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.count, slices.Clone(r.last)
}

// repairDrift compares the kernel with the applied config and restores what other programs have changed. It returns descriptions of the restored parts.
func (n *Networks) repairDrift(ctx context.Context, thorough bool) ([]string, error) {
	parts := n.plane.Drift(thorough)
	if len(parts) == 0 {
		return nil, nil
	}
	what := n.describeParts(parts)
	n.log.Warn("kernel state of the node was changed by others, making it anew", "parts", what)
	n.mu.Lock()
	n.generation++
	n.mu.Unlock()
	err := n.converge(ctx)
	if err != nil {
		n.log.Warn("part of the network could not be applied", "err", err)
	}
	n.repairs.add(what, err)
	return what, err
}

// describeParts turns part names of the data plane into descriptions for users.
func (n *Networks) describeParts(parts []string) []string {
	n.mu.Lock()
	defer n.mu.Unlock()
	names := map[string]string{dataplane.PartIngress: "routing mesh (device, forwarding entries, routes or routing rules)", dataplane.PartPorts: "published ports (nftables rules)",
		dataplane.PartWireGuard: "encryption (WireGuard interface, address, routes or peers)"}
	for id, net := range n.table.Networks {
		names["overlay "+string(id)] = "overlay network " + net.Spec.Name + " (bridge, VXLAN device or forwarding entries)"
	}
	for id, sb := range n.sandboxes {
		names["sandbox "+namespaceOf(id)] = "container " + sb.Spec.Name + " (interface, address or balancing rules)"
	}
	var out []string
	for _, part := range parts {
		switch name, ok := names[part]; {
		case ok:
			out = append(out, name)
		case strings.HasPrefix(part, "bridge "):
			out = append(out, part+" (link, address or forwarding)")
		default:
			out = append(out, part)
		}
	}
	return out
}

// Diagnose looks at the node's networking as a whole, repairs what other programs have changed, and reports the problems found.
func (n *Networks) Diagnose(ctx context.Context) shoal.Diagnosis {
	n.mu.Lock()
	self := n.table.Peers[n.table.NodeID]
	d := shoal.Diagnosis{NodeID: n.table.NodeID, Hostname: self.Hostname}
	n.mu.Unlock()
	mended, err := n.repairDrift(ctx, true)
	for _, what := range mended {
		d.Problems = append(d.Problems, what+": had been changed by others; made anew")
	}
	if err == nil {
		err = n.lastFailure()
	}
	d.Problems = append(d.Problems, problems(err)...)
	d.Checked = map[string]int{"parts": n.plane.Parts()}
	asked, wrong := n.checkNames(ctx)
	d.Checked["resolvers"] = asked
	d.Problems = append(d.Problems, wrong...)
	d.Peers = n.checkPeers(ctx)
	n.checkEncryption(&d)
	for _, p := range d.Peers {
		d.Problems = append(d.Problems, peerProblems(p)...)
		d.Problems = append(d.Problems, encryptionProblems(p, time.Now())...)
	}
	d.Repaired, d.Repairs = n.repairs.list()
	return d
}

// lastFailure is what the last Apply could not do.
func (n *Networks) lastFailure() error {
	n.applyMu.Lock()
	defer n.applyMu.Unlock()
	return n.applyErr
}

func problems(err error) []string {
	var parts interface{ Unwrap() []error }
	switch {
	case err == nil:
		return nil
	case !errors.As(err, &parts):
		return []string{"could not be applied: " + err.Error()}
	}
	var out []string
	for _, e := range parts.Unwrap() {
		out = append(out, "could not be applied: "+e.Error())
	}
	return out
}

// checkNames asks, in each container that has a resolver, for the container's own name, if it has one on any network: a task that is
// on the routing mesh alone has none.
func (n *Networks) checkNames(ctx context.Context) (asked int, wrong []string) {
	type question struct{ namespace, name string }
	var all []question
	n.mu.Lock()
	for id, sb := range n.sandboxes {
		if sb.active && sb.resolver != nil && sb.Spec.Name != "" && slices.ContainsFunc(sb.Endpoints, (*endpoint).hasServiceDiscovery) {
			all = append(all, question{namespaceOf(id), sb.Spec.Name})
		}
	}
	n.mu.Unlock()
	for _, q := range all {
		err := n.plane.Inside(q.namespace, func() error { return dns.Ask(ctx, "127.0.0.11:53", q.name) })
		if err != nil {
			wrong = append(wrong, fmt.Sprintf("container %s gets no answer from its resolver: %v", q.name, err))
		}
	}
	slices.Sort(wrong)
	return len(all), wrong
}

// checkPeers tries the way to every other node, all at once.
func (n *Networks) checkPeers(ctx context.Context) []shoal.PeerDiagnosis {
	n.mu.Lock()
	self := n.table.Peers[n.table.NodeID]
	var peers []shoal.Peer
	for id, p := range n.table.Peers {
		if id != n.table.NodeID && p.ProbeAddr.IsValid() {
			peers = append(peers, p)
		}
	}
	n.mu.Unlock()
	slices.SortFunc(peers, func(a, b shoal.Peer) int { return strings.Compare(a.Hostname, b.Hostname) })
	out := make([]shoal.PeerDiagnosis, len(peers))
	mtu := n.plane.PathMTU(self.DataAddr)
	var trying sync.WaitGroup
	for i, p := range peers {
		trying.Go(func() { out[i] = n.checkPeer(ctx, p, mtu) })
	}
	trying.Wait()
	return out
}

// smallestMTU is the packet that every way carries (RFC 791).
const smallestMTU = 576

func (n *Networks) checkPeer(ctx context.Context, p shoal.Peer, mtu int) shoal.PeerDiagnosis {
	d := shoal.PeerDiagnosis{NodeID: p.NodeID, Hostname: p.Hostname, Addr: p.DataAddr.String(), Tunnel: true}
	for _, size := range []int{smallestMTU, mtu} {
		if took, err := n.echo(ctx, p.ProbeAddr, size); err == nil {
			d.RoundTrip, d.MTU = took, size
		}
	}
	if p.IngressAddr.IsValid() {
		_, err := n.echo(ctx, netip.AddrPortFrom(p.IngressAddr, p.ProbeAddr.Port()), smallestMTU)
		d.Tunnel = err == nil
	}
	return d
}

func peerProblems(p shoal.PeerDiagnosis) []string {
	switch {
	case p.MTU == 0:
		return []string{fmt.Sprintf("node %s does not answer at %s (UDP probe port)", p.Hostname, p.Addr)}
	case !p.Tunnel:
		return []string{fmt.Sprintf("node %s answers at %s but not through the VXLAN tunnel: is its UDP port open between the nodes?", p.Hostname, p.Addr)}
	case p.MTU == smallestMTU:
		return []string{fmt.Sprintf("packets of this node's MTU do not reach node %s at %s: overlay packets of full size get lost", p.Hostname, p.Addr)}
	}
	return nil
}

const (
	echoTries = 3
	echoLimit = 300 * time.Millisecond
)

// echo sends a probe in a packet of size bytes that must not be fragmented, and waits for the answer.
func (n *Networks) echo(ctx context.Context, to netip.AddrPort, size int) (time.Duration, error) {
	var conn net.Conn
	err := n.plane.InNode(func() (err error) {
		dialer := net.Dialer{Control: dontFragment}
		conn, err = dialer.DialContext(ctx, "udp", to.String())
		return err
	})
	if err != nil {
		return 0, err
	}
	defer conn.Close()
	const headers = 28 // IPv4 and UDP
	question := append(packet(0), make([]byte, size-headers-len(packet(0)))...)
	answer := make([]byte, 64)
	for range echoTries {
		began := time.Now()
		if err = conn.SetDeadline(began.Add(echoLimit)); err != nil {
			return 0, err
		}
		if _, err = conn.Write(question); err != nil {
			continue
		}
		if _, err = conn.Read(answer); err == nil {
			return time.Since(began), nil
		}
	}
	return 0, err
}

// dontFragment sets the Don't Fragment bit on a socket's packets, whatever path MTU the kernel has found.
func dontFragment(_, _ string, c syscall.RawConn) error {
	var failed error
	err := c.Control(func(fd uintptr) {
		failed = unix.SetsockoptInt(int(fd), unix.IPPROTO_IP, unix.IP_MTU_DISCOVER, unix.IP_PMTUDISC_PROBE) // #nosec G115 -- a file descriptor
	})
	return errors.Join(err, failed)
}
