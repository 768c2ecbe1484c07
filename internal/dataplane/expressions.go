package dataplane

import (
	"encoding/binary"
	"net"
	"net/netip"
	"slices"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// The functions here build the expressions that rules are made of; each is named after what nft's language says. Register 1 is
// scratch; registers 8 and up are the same space in words of four bytes.

func native32(v uint32) []byte { return binaryutil.NativeEndian.PutUint32(v) }

func be32(v uint32) []byte { return binary.BigEndian.AppendUint32(nil, v) }

func be16(v uint16) []byte { return binary.BigEndian.AppendUint16(nil, v) }

// family is IPv4 or IPv6, as rules see them.
type family struct {
	proto        byte
	saddr, daddr uint32 // offsets in the header
	size         uint32 // of an address
	data         nftables.SetDatatype
}

func ipv4() family { return family{unix.NFPROTO_IPV4, 12, 16, 4, nftables.TypeIPAddr} }

func ipv6() family { return family{unix.NFPROTO_IPV6, 8, 24, 16, nftables.TypeIP6Addr} }

func families() []family { return []family{ipv4(), ipv6()} }

func familyOf(a netip.Addr) family {
	if a.Is4() {
		return ipv4()
	}
	return ipv6()
}

// named is the name of what there is one of per family.
func (f family) named(name string) string {
	if f.proto == unix.NFPROTO_IPV6 {
		return name + "6"
	}
	return name
}

// is matches packets of the family.
func (f family) is() []expr.Any {
	return []expr.Any{&expr.Meta{Key: expr.MetaKeyNFPROTO, Register: 1}, match(expr.CmpOpEq, []byte{f.proto})}
}

// source and destination put an address of the packet into the register.
func (f family) source(register uint32) expr.Any {
	return &expr.Payload{DestRegister: register, Base: expr.PayloadBaseNetworkHeader, Offset: f.saddr, Len: f.size}
}

func (f family) destination(register uint32) expr.Any {
	return &expr.Payload{DestRegister: register, Base: expr.PayloadBaseNetworkHeader, Offset: f.daddr, Len: f.size}
}

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

// to and from match one address of the packet.
func to(a netip.Addr) []expr.Any {
	f := familyOf(a)
	return append(f.is(), f.destination(1), match(expr.CmpOpEq, a.AsSlice()))
}

func toWithin(p netip.Prefix) []expr.Any {
	f := familyOf(p.Addr())
	return slices.Concat(f.is(), []expr.Any{f.destination(1)}, within(p))
}

func fromWithin(p netip.Prefix) []expr.Any {
	f := familyOf(p.Addr())
	return slices.Concat(f.is(), []expr.Any{f.source(1)}, within(p))
}

// within matches if the address in register 1 is of the prefix.
func within(p netip.Prefix) []expr.Any {
	size := p.Addr().BitLen() / 8
	return []expr.Any{
		&expr.Bitwise{SourceRegister: 1, DestRegister: 1, Len: uint32(size), Mask: net.CIDRMask(p.Bits(), 8*size), Xor: make([]byte, size)},
		match(expr.CmpOpEq, p.Masked().Addr().AsSlice())}
}

func dport(port uint16) []expr.Any {
	return []expr.Any{&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseTransportHeader, Offset: 2, Len: 2}, match(expr.CmpOpEq, be16(port))}
}

// protoAndPort puts the transport protocol and the destination port into registers 8 and 9.
func protoAndPort() []expr.Any {
	return []expr.Any{
		&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: 8},
		&expr.Payload{DestRegister: 9, Base: expr.PayloadBaseTransportHeader, Offset: 2, Len: 2},
	}
}

// leap goes to the chain that the map has for what begins in the register.
func leap(register uint32, dict string) []expr.Any {
	return []expr.Any{&expr.Lookup{SourceRegister: register, DestRegister: 0, IsDestRegSet: true, SetName: dict}}
}

// portVmap goes to the chain that the map has for the transport protocol and destination port.
func portVmap(dict string) []expr.Any { return slices.Concat(protoAndPort(), leap(8, dict)) }

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

// count puts the next of n numbers in turn into the register.
func count(n int, register uint32) expr.Any {
	return &expr.Numgen{Register: register, Modulus: uint32(n), Type: unix.NFT_NG_INCREMENTAL}
}

// dnat sends the connection to the address in register 1 and, if it is not 0, to the port in register ports.
func dnat(f family, ports uint32) []expr.Any {
	return []expr.Any{&expr.NAT{Type: expr.NATTypeDestNAT, Family: uint32(f.proto), RegAddrMin: 1, RegProtoMin: ports}}
}

func dnatTo(a netip.Addr, port uint16) []expr.Any {
	const register = 2 // in words of sixteen bytes, so that an address of either family goes before it
	return append([]expr.Any{&expr.Immediate{Register: 1, Data: a.AsSlice()}, &expr.Immediate{Register: register, Data: be16(port)}}, dnat(familyOf(a), register)...)
}

// discardPort is where nothing listens: what is redirected there is refused at once.
const discardPort = 9

// refuse answers a connection attempt as a host with no listener does.
func refuse(proto byte) []expr.Any {
	return append(l4proto(proto), &expr.Immediate{Register: 1, Data: be16(discardPort)}, &expr.Redir{RegisterProtoMin: 1})
}

func masquerade() []expr.Any { return []expr.Any{&expr.Masq{}} }

func verdict(kind expr.VerdictKind) []expr.Any { return []expr.Any{&expr.Verdict{Kind: kind}} }
