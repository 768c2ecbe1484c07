package swarm

import (
	"context"
	"errors"
	"net"
	"os"
	"syscall"
	"time"
)

// goneTimeout bounds the wait for a machine to say that a process has ended. One that says nothing may be alive beyond a broken link.
const goneTimeout = 200 * time.Millisecond

// leaderMayBeGone is told that the agent's session with the leader has ended. If that is because the leader's process has, this node's manager
// stands for election at once; otherwise the election timeout decides who leads. See adr/014.
func (h *Host) leaderMayBeGone(ctx context.Context, addr string) {
	m := h.manager.Load()
	if m == nil || !gone(ctx, addr) {
		return
	}
	for _, n := range m.store.View().Nodes() {
		if n.Manager == nil || n.Manager.Addr != addr {
			continue
		}
		m.nodes.Gone(n.ID)
		if err := m.member.Stand(ctx, n.Manager.MemberID); err != nil && ctx.Err() == nil {
			h.cfg.Log.Warn("this manager cannot stand for election at once; the next leader is found by timeout", "err", err)
		}
	}
}

// gone tells whether the process that listened at an address has ended. Its machine refuses connections then, or resets one that it accepted a
// moment before.
func gone(ctx context.Context, addr string) bool {
	ctx, cancel := context.WithTimeout(ctx, goneTimeout)
	defer cancel()
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", addr)
	if err != nil {
		return errors.Is(err, syscall.ECONNREFUSED)
	}
	defer func() { _ = conn.Close() }()
	if err := conn.SetReadDeadline(time.Now().Add(goneTimeout)); err != nil {
		return false
	}
	_, err = conn.Read(make([]byte, 1)) // a server of TLS says nothing before its client does
	return err != nil && !errors.Is(err, os.ErrDeadlineExceeded)
}
