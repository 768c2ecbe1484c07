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
	// suspicionThreshold is how unlikely a silence must be, as -log10 of its probability, before the peer is suspected.
	suspicionThreshold = 3
	// minSilence is never exceeded by a healthy peer on a busy machine, whatever its history says.
	minSilence   = 600 * time.Millisecond
	maxIntervals = 32
)

// probeHistory is when one peer answered its latest probes.
type probeHistory struct {
	last      time.Time
	intervals []time.Duration // the last few, oldest first
	suspect   bool
}

func (p *probeHistory) answered(now time.Time) {
	if !p.last.IsZero() {
		p.intervals = append(p.intervals, now.Sub(p.last))
		if len(p.intervals) > maxIntervals {
			p.intervals = p.intervals[1:]
		}
	}
	p.last = now
}

// suspicionLevel grows with the length of the silence, measured by the peer's usual gaps: the accrual detector of Hayashibara et al., with
// exponentially distributed gaps.
func (p *probeHistory) suspicionLevel(now time.Time) float64 {
	mean := probePeriod
	for _, g := range p.intervals {
		mean += g / time.Duration(len(p.intervals))
	}
	return float64(now.Sub(p.last)) / float64(mean) * math.Log10E
}

// shouldSuspect tells whether the peer should be suspected. A peer that never answered is suspected too: it is skipped as long as others are left.
func (p *probeHistory) shouldSuspect(now time.Time) bool {
	return now.Sub(p.last) > minSilence && p.suspicionLevel(now) > suspicionThreshold
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
	histories := map[shoal.NodeID]*probeHistory{}
	var probeTargets map[netip.AddrPort]shoal.NodeID
	lastTick := time.Now()
	for {
		select {
		case <-ctx.Done():
			return nil
		case from := <-answers:
			id, ok := probeTargets[netip.AddrPortFrom(from.Addr().Unmap(), from.Port())]
			if !ok {
				continue
			}
			histories[id].answered(time.Now())
			if histories[id].suspect {
				histories[id].suspect = false
				n.suspectPeers(ctx, histories)
			}
		case <-tick.C:
			probeTargets = n.probeTargets()
			now, changed := time.Now(), pruneHistories(histories, probeTargets)
			if slept := now.Sub(lastTick) - probePeriod; slept > probePeriod {
				// This node was too busy to ask, or to read the answers: that is no silence of its peers.
				for _, p := range histories {
					p.last = p.last.Add(slept)
				}
			}
			lastTick = now
			for addr, id := range probeTargets {
				if histories[id] == nil {
					histories[id] = &probeHistory{last: now} // the peer is new
				}
				_, _ = conn.WriteTo(packet(0), net.UDPAddrFromAddrPort(addr)) // a failure is a missing answer
				if p := histories[id]; !p.suspect && p.shouldSuspect(now) {
					p.suspect, changed = true, true
				}
			}
			if changed {
				n.suspectPeers(ctx, histories)
			}
		}
	}
}

func pruneHistories(histories map[shoal.NodeID]*probeHistory, probeTargets map[netip.AddrPort]shoal.NodeID) bool {
	wanted, changed := map[shoal.NodeID]bool{}, false
	for _, id := range probeTargets {
		wanted[id] = true
	}
	for id, p := range histories {
		if !wanted[id] {
			changed = changed || p.suspect
			delete(histories, id)
		}
	}
	return changed
}

// probeTargets is the peers that this node sends traffic to: those that host an endpoint it knows.
func (n *Networks) probeTargets() map[netip.AddrPort]shoal.NodeID {
	n.mu.Lock()
	defer n.mu.Unlock()
	out := map[netip.AddrPort]shoal.NodeID{}
	for id := range n.endpointCounts {
		if peer := n.table.Peers[id]; id != n.table.NodeID && peer.ProbeAddr.IsValid() {
			out[peer.ProbeAddr] = id
		}
	}
	return out
}

// suspectPeers applies the set of suspected peers and logs what changed.
func (n *Networks) suspectPeers(ctx context.Context, histories map[shoal.NodeID]*probeHistory) {
	now := map[shoal.NodeID]bool{}
	for id, p := range histories {
		if p.suspect {
			now[id] = true
		}
	}
	n.mu.Lock()
	before := n.suspects
	n.suspect(now)
	n.generation++
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

// repairPeriod is short enough that a change is repaired within two seconds.
const repairPeriod = time.Second

// repair restores kernel state that other programs have changed, by comparing it every repairPeriod.
func (n *Networks) repair(ctx context.Context) error {
	tick := time.NewTicker(repairPeriod)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
			_, _ = n.repairDrift(ctx, false) // logged, and listed by Diagnose
		}
	}
}
