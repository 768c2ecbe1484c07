package network

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"math"
	"net"
	"net/netip"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/shoal-dev/shoal/internal/shoal"
)

const (
	defaultProbePort = 7946
	probePeriod      = 100 * time.Millisecond
	// suspicion is how unlikely a silence must be, as -log10 of its probability, before the peer is suspected.
	suspicion = 3
	// minSilence is never exceeded by a healthy peer on a busy machine, whatever its history says.
	minSilence = 600 * time.Millisecond
	history    = 32
)

// pulse is what is known of one peer's answers.
type pulse struct {
	last    time.Time
	gaps    []time.Duration // the last few, oldest first
	suspect bool
}

func (p *pulse) beat(now time.Time) {
	if !p.last.IsZero() {
		p.gaps = append(p.gaps, now.Sub(p.last))
		if len(p.gaps) > history {
			p.gaps = p.gaps[1:]
		}
	}
	p.last = now
}

// phi grows with the length of the silence, measured by the peer's usual gaps: the accrual detector of Hayashibara et al., with
// exponentially distributed gaps.
func (p *pulse) phi(now time.Time) float64 {
	mean := probePeriod
	for _, g := range p.gaps {
		mean += g / time.Duration(len(p.gaps))
	}
	return float64(now.Sub(p.last)) / float64(mean) * math.Log10E
}

// silent tells whether the peer should be suspected. A peer that was never heard is: it is skipped as long as others are left.
func (p *pulse) silent(now time.Time) bool {
	return now.Sub(p.last) > minSilence && p.phi(now) > suspicion
}

// Run answers and sends probes and watches the kernel for drift, until ctx ends.
func (n *Networks) Run(ctx context.Context) error {
	var conn net.PacketConn
	err := n.plane.InNode(func() (err error) {
		conn, err = net.ListenPacket("udp4", fmt.Sprintf(":%d", n.cfg.ProbePort))
		return err
	})
	if err != nil {
		return fmt.Errorf("listen for probes: %w", err)
	}
	answers := make(chan netip.AddrPort, 64)
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error {
		<-ctx.Done()
		return conn.Close()
	})
	g.Go(func() error { return answerProbes(ctx, conn, answers) })
	g.Go(func() error { return n.probe(ctx, conn, answers) })
	g.Go(func() error { return n.repair(ctx) })
	if err := g.Wait(); err != nil && ctx.Err() == nil {
		return err
	}
	return nil
}

// A probe is eight bytes: a magic number, then 0 for a question and 1 for an answer. A question may be longer, to try out the size.
const (
	probeMagic = 0x73686f61
	maxPacket  = 1 << 16
)

func packet(kind uint32) []byte {
	return binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint32(nil, probeMagic), kind)
}

func answerProbes(ctx context.Context, conn net.PacketConn, answers chan<- netip.AddrPort) error {
	buf := make([]byte, maxPacket)
	for {
		size, from, err := conn.ReadFrom(buf)
		if err != nil {
			if ctx.Err() != nil || errors.Is(err, net.ErrClosed) {
				return nil
			}
			continue // an ICMP error of an earlier packet
		}
		if size < len(packet(0)) || binary.BigEndian.Uint32(buf) != probeMagic {
			continue
		}
		if binary.BigEndian.Uint32(buf[4:]) == 0 {
			_, _ = conn.WriteTo(packet(1), from) // the peer asks again
			continue
		}
		if udp, ok := from.(*net.UDPAddr); ok {
			select {
			case answers <- udp.AddrPort():
			default:
			}
		}
	}
}

func (n *Networks) probe(ctx context.Context, conn net.PacketConn, answers <-chan netip.AddrPort) error {
	tick := time.NewTicker(probePeriod)
	defer tick.Stop()
	pulses := map[shoal.NodeID]*pulse{}
	var targets map[netip.AddrPort]shoal.NodeID
	looked := time.Now()
	for {
		select {
		case <-ctx.Done():
			return nil
		case from := <-answers:
			id, ok := targets[netip.AddrPortFrom(from.Addr().Unmap(), from.Port())]
			if !ok {
				continue
			}
			pulses[id].beat(time.Now())
			if pulses[id].suspect {
				pulses[id].suspect = false
				n.suspectPeers(ctx, pulses)
			}
		case <-tick.C:
			targets = n.targets()
			now, changed := time.Now(), prunePulses(pulses, targets)
			if slept := now.Sub(looked) - probePeriod; slept > probePeriod {
				// This node was too busy to ask, or to read the answers: that is no silence of its peers.
				for _, p := range pulses {
					p.last = p.last.Add(slept)
				}
			}
			looked = now
			for addr, id := range targets {
				if pulses[id] == nil {
					pulses[id] = &pulse{last: now} // heard of just now
				}
				_, _ = conn.WriteTo(packet(0), net.UDPAddrFromAddrPort(addr)) // a failure is a missing answer
				if p := pulses[id]; !p.suspect && p.silent(now) {
					p.suspect, changed = true, true
				}
			}
			if changed {
				n.suspectPeers(ctx, pulses)
			}
		}
	}
}

func prunePulses(pulses map[shoal.NodeID]*pulse, targets map[netip.AddrPort]shoal.NodeID) bool {
	wanted, changed := map[shoal.NodeID]bool{}, false
	for _, id := range targets {
		wanted[id] = true
	}
	for id, p := range pulses {
		if !wanted[id] {
			changed = changed || p.suspect
			delete(pulses, id)
		}
	}
	return changed
}

// targets is the peers that this node sends traffic to: those that host an endpoint it knows.
func (n *Networks) targets() map[netip.AddrPort]shoal.NodeID {
	n.mu.Lock()
	defer n.mu.Unlock()
	out := map[netip.AddrPort]shoal.NodeID{}
	for id := range n.hosts {
		if peer := n.table.Peers[id]; id != n.table.NodeID && peer.ProbeAddr.IsValid() {
			out[peer.ProbeAddr] = id
		}
	}
	return out
}

// suspectPeers puts a new set of suspects into force.
func (n *Networks) suspectPeers(ctx context.Context, pulses map[shoal.NodeID]*pulse) {
	now := map[shoal.NodeID]bool{}
	for id, p := range pulses {
		if p.suspect {
			now[id] = true
		}
	}
	n.mu.Lock()
	before := n.suspects
	n.suspect(now)
	n.want++
	peers := maps.Clone(n.table.Peers)
	n.mu.Unlock()
	for _, id := range slices.Sorted(maps.Keys(now)) {
		if !before[id] {
			n.log.Warn("peer does not answer, its tasks are skipped", "node", id, "address", peers[id].ProbeAddr)
		}
	}
	for _, id := range slices.Sorted(maps.Keys(before)) {
		if !now[id] {
			n.log.Info("peer answers again", "node", id, "address", peers[id].ProbeAddr)
		}
	}
	if err := n.converge(ctx); err != nil {
		n.log.Warn("part of the network could not be applied", "err", err)
	}
}

// repairPeriod leaves time to mend within two seconds of the change.
const repairPeriod = time.Second

// repair looks at the kernel anew from time to time, so that what was changed behind our back comes back.
func (n *Networks) repair(ctx context.Context) error {
	tick := time.NewTicker(repairPeriod)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
			_, _ = n.mend(ctx, false) // it is logged, and remembered for who asks
		}
	}
}
