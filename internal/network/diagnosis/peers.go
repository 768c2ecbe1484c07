package diagnosis

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"

	"github.com/shoal-dev/shoal/internal/fault"
	"github.com/shoal-dev/shoal/internal/network/probe"
	"github.com/shoal-dev/shoal/internal/shoal"
)

// checkPeers tries the way to every other node, all at once.
func (c Checkup) checkPeers(ctx context.Context) []shoal.PeerDiagnosis {
	peers := slices.Clone(c.Snapshot.Peers)
	slices.SortFunc(peers, func(a, b shoal.Peer) int { return strings.Compare(a.Hostname, b.Hostname) })
	out := make([]shoal.PeerDiagnosis, len(peers))
	mtu := c.Plane.PathMTU(c.Snapshot.Self.DataAddr)
	var trying sync.WaitGroup
	for i, p := range peers {
		trying.Go(func() {
			if !fault.Do(nil, "check of the way to a node", func() { out[i] = c.checkPeer(ctx, p, mtu) }) {
				out[i] = shoal.PeerDiagnosis{NodeID: p.NodeID, Hostname: p.Hostname, Addr: p.DataAddr.String()}
			}
		})
	}
	trying.Wait()
	return out
}

// smallestMTU is the packet that every way carries (RFC 791).
const smallestMTU = 576

func (c Checkup) checkPeer(ctx context.Context, p shoal.Peer, mtu int) shoal.PeerDiagnosis {
	d := shoal.PeerDiagnosis{NodeID: p.NodeID, Hostname: p.Hostname, Addr: p.DataAddr.String(), Tunnel: true}
	for _, size := range []int{smallestMTU, mtu} {
		if took, err := probe.Echo(ctx, c.Plane.InNode, p.ProbeAddr, size); err == nil {
			d.RoundTrip, d.MTU = took, size
		}
	}
	if p.IngressAddr.IsValid() {
		_, err := probe.Echo(ctx, c.Plane.InNode, netip.AddrPortFrom(p.IngressAddr, p.ProbeAddr.Port()), smallestMTU)
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
