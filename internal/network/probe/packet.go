package probe

import (
	"context"
	"encoding/binary"
	"errors"
	"net"
	"net/netip"
)

// A probe is eight bytes: a magic number, then its kind. A call is the leader's to a node that has no session (docs/membership.md). A question may be longer, to find out whether packets of that size arrive.
const (
	magic     = 0x73686f61
	maxPacket = 1 << 16 // bytes

	question = 0
	answer   = 1
	call     = 2 // not answered
)

func packet(kind uint32) []byte {
	return binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint32(nil, magic), kind)
}

// answerProbes answers the questions that arrive and passes on who has answered and who calls, until ctx ends and conn is closed.
func answerProbes(ctx context.Context, conn net.PacketConn, answers chan<- netip.AddrPort, called func(netip.Addr)) error {
	buf := make([]byte, maxPacket)
	for {
		size, from, err := conn.ReadFrom(buf)
		if err != nil {
			if ctx.Err() != nil || errors.Is(err, net.ErrClosed) {
				return nil
			}
			continue // an ICMP error of an earlier packet
		}
		if size < len(packet(question)) || binary.BigEndian.Uint32(buf) != magic {
			continue
		}
		udp, ok := from.(*net.UDPAddr)
		if !ok {
			continue
		}
		switch binary.BigEndian.Uint32(buf[4:]) {
		case question:
			_, _ = conn.WriteTo(packet(answer), from) // the peer asks again
		case call:
			called(udp.AddrPort().Addr().Unmap())
		default:
			select {
			case answers <- udp.AddrPort():
			default:
			}
		}
	}
}
