package dataplane

import (
	"encoding/binary"
	"net/netip"

	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// The functions here build the expressions that rules are made of; each is named after what nft's language says. Register 1 is
// scratch; registers 8 and up are the same space in words of four bytes.

func native32(v uint32) []byte { return binaryutil.NativeEndian.PutUint32(v) }

func be16(v uint16) []byte { return binary.BigEndian.AppendUint16(nil, v) }

func ip4(a netip.Addr) []byte { b := a.As4(); return b[:] }

func ifname(name string) []byte {
	b := make([]byte, unix.IFNAMSIZ)
	copy(b, name)
	return b
}

func match(op expr.CmpOp, data []byte) expr.Any { return &expr.Cmp{Op: op, Register: 1, Data: data} }

func iif(name string) []expr.Any {
	return []expr.Any{&expr.Meta{Key: expr.MetaKeyIIFNAME, Register: 1}, match(expr.CmpOpEq, ifname(name))}
}

func iifNot(name string) []expr.Any {
	return []expr.Any{&expr.Meta{Key: expr.MetaKeyIIFNAME, Register: 1}, match(expr.CmpOpNeq, ifname(name))}
}

func oif(name string) []expr.Any {
	return []expr.Any{&expr.Meta{Key: expr.MetaKeyOIFNAME, Register: 1}, match(expr.CmpOpEq, ifname(name))}
}

func oifNot(name string) []expr.Any {
	return []expr.Any{&expr.Meta{Key: expr.MetaKeyOIFNAME, Register: 1}, match(expr.CmpOpNeq, ifname(name))}
}

func oifIn(set string) []expr.Any {
	return []expr.Any{&expr.Meta{Key: expr.MetaKeyOIFNAME, Register: 1}, &expr.Lookup{SourceRegister: 1, SetName: set}}
}

func l4proto(proto byte) []expr.Any {
	return []expr.Any{&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: 1}, match(expr.CmpOpEq, []byte{proto})}
}

func network(offset, length uint32) expr.Any {
	return &expr.Payload{DestRegister: 1, Base: expr.PayloadBaseNetworkHeader, Offset: offset, Len: length}
}

const saddr, daddr = 12, 16 // offsets in the IPv4 header

func address(offset uint32, a netip.Addr) []expr.Any {
	return []expr.Any{network(offset, 4), match(expr.CmpOpEq, ip4(a))}
}

func within(offset uint32, p netip.Prefix) []expr.Any {
	mask := make([]byte, 4)
	binary.BigEndian.PutUint32(mask, ^uint32(0)<<(32-p.Bits()))
	if p.Bits() == 0 {
		mask = make([]byte, 4)
	}
	return []expr.Any{network(offset, 4),
		&expr.Bitwise{SourceRegister: 1, DestRegister: 1, Len: 4, Mask: mask, Xor: make([]byte, 4)},
		match(expr.CmpOpEq, ip4(p.Masked().Addr()))}
}

func addressIn(offset uint32, set string) []expr.Any {
	return []expr.Any{network(offset, 4), &expr.Lookup{SourceRegister: 1, SetName: set}}
}

// vmap goes to the chain that the map has for the address.
func vmap(offset uint32, dict string) []expr.Any {
	return []expr.Any{network(offset, 4), &expr.Lookup{SourceRegister: 1, DestRegister: 0, IsDestRegSet: true, SetName: dict}}
}

func dport(port uint16) []expr.Any {
	return []expr.Any{&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseTransportHeader, Offset: 2, Len: 2}, match(expr.CmpOpEq, be16(port))}
}

// portVmap goes to the chain that the map has for the transport protocol and destination port.
func portVmap(dict string) []expr.Any {
	return []expr.Any{
		&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: 8},
		&expr.Payload{DestRegister: 9, Base: expr.PayloadBaseTransportHeader, Offset: 2, Len: 2},
		&expr.Lookup{SourceRegister: 8, DestRegister: 0, IsDestRegSet: true, SetName: dict},
	}
}

func portKey(proto byte, port uint16) []byte {
	return []byte{proto, 0, 0, 0, byte(port >> 8), byte(port), 0, 0}
}

func local(saddr bool) []expr.Any {
	return []expr.Any{&expr.Fib{Register: 1, ResultADDRTYPE: true, FlagSADDR: saddr, FlagDADDR: !saddr}, match(expr.CmpOpEq, native32(unix.RTN_LOCAL))}
}

const tcpFin, tcpSyn, tcpRst, tcpAck = 1, 2, 4, 16

// tcpFlags compares the flags under a mask.
func tcpFlags(mask byte, op expr.CmpOp, flags byte) []expr.Any {
	return append(l4proto(unix.IPPROTO_TCP),
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseTransportHeader, Offset: 13, Len: 1},
		&expr.Bitwise{SourceRegister: 1, DestRegister: 1, Len: 1, Mask: []byte{mask}, Xor: []byte{0}},
		match(op, []byte{flags}))
}

// stray matches TCP packets that do not open a connection. They reach a NAT chain only when connection tracking has forgotten
// the connection.
func stray() []expr.Any { return tcpFlags(tcpFin|tcpSyn|tcpRst|tcpAck, expr.CmpOpNeq, tcpSyn) }

// clampMSS sets the MSS of handshakes to what the route carries.
func clampMSS() []expr.Any {
	return append(tcpFlags(tcpSyn|tcpRst, expr.CmpOpEq, tcpSyn),
		&expr.Rt{Register: 1, Key: expr.RtTCPMSS},
		&expr.Exthdr{SourceRegister: 1, Type: 2, Offset: 2, Len: 2, Op: expr.ExthdrOpTcpopt})
}

const ctStatusDNAT = 0x20

// translated tells whether the connection's destination was rewritten, that is: it came through a published port.
func translated(is bool) []expr.Any {
	op := expr.CmpOpNeq
	if !is {
		op = expr.CmpOpEq
	}
	return []expr.Any{&expr.Ct{Register: 1, Key: expr.CtKeySTATUS},
		&expr.Bitwise{SourceRegister: 1, DestRegister: 1, Len: 4, Mask: native32(ctStatusDNAT), Xor: make([]byte, 4)},
		match(op, make([]byte, 4))}
}

func ctNew() []expr.Any {
	return []expr.Any{&expr.Ct{Register: 1, Key: expr.CtKeySTATE},
		&expr.Bitwise{SourceRegister: 1, DestRegister: 1, Len: 4, Mask: native32(expr.CtStateBitNEW), Xor: make([]byte, 4)},
		match(expr.CmpOpNeq, make([]byte, 4))}
}

func ctReply() []expr.Any {
	return []expr.Any{&expr.Ct{Register: 1, Key: expr.CtKeyDIRECTION}, match(expr.CmpOpEq, []byte{1})}
}

func etherSource() expr.Any {
	return &expr.Payload{DestRegister: 1, Base: expr.PayloadBaseLLHeader, Offset: 6, Len: 6}
}

func find(dict string) expr.Any {
	return &expr.Lookup{SourceRegister: 1, DestRegister: 1, IsDestRegSet: true, SetName: dict}
}

// turn takes the next of n slots in turn and finds its address in the map.
func turn(n int, dict string) []expr.Any {
	return []expr.Any{&expr.Numgen{Register: 1, Modulus: uint32(n), Type: unix.NFT_NG_INCREMENTAL}, find(dict)}
}

// dnat sends the connection to the address in register 1, and to the port if it is not 0.
func dnat(port uint16) []expr.Any {
	nat := &expr.NAT{Type: expr.NATTypeDestNAT, Family: unix.NFPROTO_IPV4, RegAddrMin: 1}
	if port == 0 {
		return []expr.Any{nat}
	}
	nat.RegProtoMin = 2
	return []expr.Any{&expr.Immediate{Register: 2, Data: be16(port)}, nat}
}

func dnatTo(a netip.Addr, port uint16) []expr.Any {
	return append([]expr.Any{&expr.Immediate{Register: 1, Data: ip4(a)}}, dnat(port)...)
}

// discardPort is where nothing listens: what is redirected there is refused at once.
const discardPort = 9

// refuse answers a connection attempt as a host with no listener does.
func refuse(proto byte) []expr.Any {
	return append(l4proto(proto), &expr.Immediate{Register: 1, Data: be16(discardPort)}, &expr.Redir{RegisterProtoMin: 1})
}

func masquerade() []expr.Any { return []expr.Any{&expr.Masq{}} }

func verdict(kind expr.VerdictKind) []expr.Any { return []expr.Any{&expr.Verdict{Kind: kind}} }
