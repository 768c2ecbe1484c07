// Package probe finds out which peers of the node are alive. It sends and answers small UDP packets, reads how long each peer has been silent,
// and tells the node of the peers that it suspects. A suspicion is this node's own: nobody else learns of it.
package probe

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/shoal-dev/shoal/internal/fault"
	"github.com/shoal-dev/shoal/internal/shoal"
)

// DefaultPort is the UDP port on which nodes answer probes.
const DefaultPort = 7946

// period is the time between two questions to a peer.
const period = 100 * time.Millisecond

// Config is what a Prober needs.
type Config struct {
	// Conn is the port of this node: see Listen. Run closes it.
	Conn net.PacketConn
	// Peers is whom to ask, by address. It is called before every question.
	Peers func() map[netip.AddrPort]shoal.NodeID
	// Suspect is told of all peers that are suspected, whenever they change.
	Suspect func(ctx context.Context, suspects map[shoal.NodeID]bool)
	// Called is told of addresses from which a leader calls, as it seems: anybody can. It must not wait.
	Called func(netip.Addr)
}

// Listen opens a UDP port of the node. inNode runs a function in its namespace.
func Listen(inNode func(func() error) error, port uint16) (net.PacketConn, error) {
	var conn net.PacketConn
	err := inNode(func() (err error) {
		conn, err = net.ListenPacket("udp4", fmt.Sprintf(":%d", port))
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("listen for probes: %w", err)
	}
	return conn, nil
}

// Run answers probes and asks the peers until ctx ends.
func Run(ctx context.Context, c Config) error {
	p := &prober{cfg: c, conn: c.Conn, histories: map[shoal.NodeID]*history{}, answers: make(chan netip.AddrPort, 64)}
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error {
		<-ctx.Done()
		return p.conn.Close()
	})
	g.Go(func() error {
		return fault.Contain(nil, "answers to probes", func() error { return answerProbes(ctx, p.conn, p.answers, c.Called) })
	})
	g.Go(func() error { return fault.Contain(nil, "probes", func() error { return p.run(ctx) }) }) // begun anew, without its histories
	return g.Wait()
}

// prober is what one goroutine knows of the peers.
type prober struct {
	cfg       Config
	conn      net.PacketConn
	answers   chan netip.AddrPort // who has answered
	targets   map[netip.AddrPort]shoal.NodeID
	histories map[shoal.NodeID]*history
}

func (p *prober) run(ctx context.Context) error {
	tick := time.NewTicker(period)
	defer tick.Stop()
	lastTick := time.Now()
	for {
		select {
		case <-ctx.Done():
			return nil
		case from := <-p.answers:
			p.receive(ctx, from)
		case <-tick.C:
			p.targets = p.cfg.Peers()
			now := time.Now()
			changed := p.prune()
			if slept := now.Sub(lastTick) - period; slept > period {
				// This node was too busy to ask, or to read the answers: that is no silence of its peers.
				for _, h := range p.histories {
					h.last = h.last.Add(slept)
				}
			}
			lastTick = now
			if p.askAll(now) || changed {
				p.cfg.Suspect(ctx, p.suspects())
			}
		}
	}
}

// receive takes in an answer.
func (p *prober) receive(ctx context.Context, from netip.AddrPort) {
	id, ok := p.targets[netip.AddrPortFrom(from.Addr().Unmap(), from.Port())]
	if !ok {
		return
	}
	h := p.histories[id]
	h.answered(time.Now())
	if h.suspect {
		h.suspect = false
		p.cfg.Suspect(ctx, p.suspects())
	}
}

// askAll asks every peer. It returns true if one has become suspect.
func (p *prober) askAll(now time.Time) (changed bool) {
	for addr, id := range p.targets {
		if p.histories[id] == nil {
			p.histories[id] = &history{last: now} // the peer is new
		}
		_, _ = p.conn.WriteTo(packet(question), net.UDPAddrFromAddrPort(addr)) // a failure is a missing answer
		if h := p.histories[id]; !h.suspect && h.shouldSuspect(now) {
			h.suspect, changed = true, true
		}
	}
	return changed
}

// prune forgets peers that are no longer asked. It returns true if one of them was suspect.
func (p *prober) prune() (changed bool) {
	wanted := map[shoal.NodeID]bool{}
	for _, id := range p.targets {
		wanted[id] = true
	}
	for id, h := range p.histories {
		if !wanted[id] {
			changed = changed || h.suspect
			delete(p.histories, id)
		}
	}
	return changed
}

func (p *prober) suspects() map[shoal.NodeID]bool {
	out := map[shoal.NodeID]bool{}
	for id, h := range p.histories {
		if h.suspect {
			out[id] = true
		}
	}
	return out
}
