package nft

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

// The functions here build the expressions that rules are made of; each is named after what it is called in nft(8). Register 1 is scratch.
// Registers 1 to 4 are words of sixteen bytes; registers 8 and up are the same space in words of four.

// NativeUint32 is v in the machine's byte order, as marks and verdict map keys are compared.
func NativeUint32(v uint32) []byte { return binaryutil.NativeEndian.PutUint32(v) }

// BigUint32 is v in network byte order.
func BigUint32(v uint32) []byte { return binary.BigEndian.AppendUint32(nil, v) }

// BigUint16 is v in network byte order.
func BigUint16(v uint16) []byte { return binary.BigEndian.AppendUint16(nil, v) }

// IfName is an interface's name as a key: padded with zeros.
func IfName(name string) []byte {
	b := make([]byte, unix.IFNAMSIZ)
	copy(b, name)
	return b
}

// Cmp compares register 1.
func Cmp(op expr.CmpOp, data []byte) expr.Any { return &expr.Cmp{Op: op, Register: 1, Data: data} }

func metaCmp(key expr.MetaKey, op expr.CmpOp, data []byte) []expr.Any {
	return []expr.Any{&expr.Meta{Key: key, Register: 1}, Cmp(op, data)}
}

// IIFName matches packets that came in by the interface.
func IIFName(name string) []expr.Any {
	return metaCmp(expr.MetaKeyIIFNAME, expr.CmpOpEq, IfName(name))
}

// IIFNameNot matches packets that came in by any other interface.
func IIFNameNot(name string) []expr.Any {
	return metaCmp(expr.MetaKeyIIFNAME, expr.CmpOpNeq, IfName(name))
}

// OIFName matches packets that leave by the interface.
func OIFName(name string) []expr.Any {
	return metaCmp(expr.MetaKeyOIFNAME, expr.CmpOpEq, IfName(name))
}

// OIFNameNot matches packets that leave by any other interface.
func OIFNameNot(name string) []expr.Any {
	return metaCmp(expr.MetaKeyOIFNAME, expr.CmpOpNeq, IfName(name))
}

// OIFNameIn matches packets that leave by an interface of the set.
func OIFNameIn(set string) []expr.Any {
	return []expr.Any{&expr.Meta{Key: expr.MetaKeyOIFNAME, Register: 1}, &expr.Lookup{SourceRegister: 1, SetName: set}}
}

// L4Proto matches packets of the transport protocol (IPPROTO_*).
func L4Proto(proto byte) []expr.Any {
	return metaCmp(expr.MetaKeyL4PROTO, expr.CmpOpEq, []byte{proto})
}

// DAddr matches packets to the address.
func DAddr(a netip.Addr) []expr.Any {
	f := FamilyOf(a)
	return append(f.Match(), f.LoadDAddr(1), Cmp(expr.CmpOpEq, a.AsSlice()))
}

// DAddrIn matches packets to addresses of the prefix.
func DAddrIn(p netip.Prefix) []expr.Any {
	f := FamilyOf(p.Addr())
	return slices.Concat(f.Match(), []expr.Any{f.LoadDAddr(1)}, inPrefix(p))
}

// SAddrIn matches packets from addresses of the prefix.
func SAddrIn(p netip.Prefix) []expr.Any {
	f := FamilyOf(p.Addr())
	return slices.Concat(f.Match(), []expr.Any{f.LoadSAddr(1)}, inPrefix(p))
}

// inPrefix matches if the address in register 1 is of the prefix.
func inPrefix(p netip.Prefix) []expr.Any {
	size := p.Addr().BitLen() / 8
	return append(mask(net.CIDRMask(p.Bits(), 8*size)), Cmp(expr.CmpOpEq, p.Masked().Addr().AsSlice()))
}

// mask keeps only those bits of register 1.
func mask(bits []byte) []expr.Any {
	return []expr.Any{&expr.Bitwise{SourceRegister: 1, DestRegister: 1, Len: uint32(len(bits)), Mask: bits, Xor: make([]byte, len(bits))}}
}

// DPort matches packets to the port. The transport protocol must have been matched before.
func DPort(port uint16) []expr.Any {
	return []expr.Any{&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseTransportHeader, Offset: 2, Len: 2}, Cmp(expr.CmpOpEq, BigUint16(port))}
}

// LoadPortKey puts the transport protocol and the destination port into registers 8 and 9: a key as PortKey writes it.
func LoadPortKey() []expr.Any {
	return []expr.Any{
		&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: 8},
		&expr.Payload{DestRegister: 9, Base: expr.PayloadBaseTransportHeader, Offset: 2, Len: 2},
	}
}

// PortKey is the key of a transport protocol (IPPROTO_*) and a port in sets of PortKeyType.
func PortKey(proto byte, port uint16) []byte {
	return []byte{proto, 0, 0, 0, byte(port >> 8), byte(port), 0, 0}
}

// PortKeyType is the type "inet_proto . inet_service".
func PortKeyType() nftables.SetDatatype {
	return ConcatType(nftables.TypeInetProto, nftables.TypeInetService)
}

// ConcatType is the concatenation of types. It panics for types that cannot be concatenated: they are part of the program.
func ConcatType(types ...nftables.SetDatatype) nftables.SetDatatype {
	return nftables.MustConcatSetType(types...)
}

// VMap goes to the chain that the verdict map has for what begins in the register.
func VMap(register uint32, name string) []expr.Any {
	return []expr.Any{&expr.Lookup{SourceRegister: register, DestRegister: 0, IsDestRegSet: true, SetName: name}}
}

// PortVMap goes to the chain that the verdict map has for the packet's transport protocol and destination port.
func PortVMap(name string) []expr.Any { return slices.Concat(LoadPortKey(), VMap(8, name)) }

// PortMap puts into register 1 what the map has for the packet's transport protocol and destination port.
func PortMap(name string) []expr.Any {
	return append(LoadPortKey(), &expr.Lookup{SourceRegister: 8, DestRegister: 1, IsDestRegSet: true, SetName: name})
}

// Map replaces what is in register 1 by what the map has for it. The rule ends there if that is nothing.
func Map(name string) expr.Any {
	return &expr.Lookup{SourceRegister: 1, DestRegister: 1, IsDestRegSet: true, SetName: name}
}

// SAddrLocal matches packets from addresses of the namespace itself.
func SAddrLocal() []expr.Any { return fibLocal(&expr.Fib{FlagSADDR: true}) }

// DAddrLocal matches packets to addresses of the namespace itself.
func DAddrLocal() []expr.Any { return fibLocal(&expr.Fib{FlagDADDR: true}) }

func fibLocal(fib *expr.Fib) []expr.Any {
	fib.Register, fib.ResultADDRTYPE = 1, true
	return []expr.Any{fib, Cmp(expr.CmpOpEq, NativeUint32(unix.RTN_LOCAL))}
}

const tcpFin, tcpSyn, tcpRst, tcpAck = 1, 2, 4, 16

// tcpFlags compares the flags under a mask.
func tcpFlags(bits byte, op expr.CmpOp, flags byte) []expr.Any {
	return slices.Concat(L4Proto(unix.IPPROTO_TCP),
		[]expr.Any{&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseTransportHeader, Offset: 13, Len: 1}},
		mask([]byte{bits}), []expr.Any{Cmp(op, []byte{flags})})
}

// TCPMidstream matches TCP packets that do not open a connection. Only the first packet of a connection traverses a NAT chain, so these get there
// only when connection tracking has forgotten their connection.
func TCPMidstream() []expr.Any {
	return tcpFlags(tcpFin|tcpSyn|tcpRst|tcpAck, expr.CmpOpNeq, tcpSyn)
}

// ClampMSS sets the MSS of TCP handshakes to what the route carries.
func ClampMSS() []expr.Any {
	return append(tcpFlags(tcpSyn|tcpRst, expr.CmpOpEq, tcpSyn),
		&expr.Rt{Register: 1, Key: expr.RtTCPMSS},
		&expr.Exthdr{SourceRegister: 1, Type: 2, Offset: 2, Len: 2, Op: expr.ExthdrOpTcpopt})
}

// ctStatusDNAT is IPS_DST_NAT.
const ctStatusDNAT = 0x20

// CTDNAT matches packets of connections whose destination was rewritten, which came through a published port; or, if not is set, of all others.
func CTDNAT(not bool) []expr.Any {
	op := expr.CmpOpNeq
	if not {
		op = expr.CmpOpEq
	}
	return slices.Concat([]expr.Any{&expr.Ct{Register: 1, Key: expr.CtKeySTATUS}}, mask(NativeUint32(ctStatusDNAT)), []expr.Any{Cmp(op, make([]byte, 4))})
}

// CTNew matches the first packet of a connection.
func CTNew() []expr.Any {
	return slices.Concat([]expr.Any{&expr.Ct{Register: 1, Key: expr.CtKeySTATE}}, mask(NativeUint32(expr.CtStateBitNEW)),
		[]expr.Any{Cmp(expr.CmpOpNeq, make([]byte, 4))})
}

// CTReply matches packets in the reply direction of their connection.
func CTReply() []expr.Any {
	return []expr.Any{&expr.Ct{Register: 1, Key: expr.CtKeyDIRECTION}, Cmp(expr.CmpOpEq, []byte{1})}
}

// CTMark puts the connection's mark into register 1.
func CTMark() expr.Any { return &expr.Ct{Key: expr.CtKeyMARK, Register: 1} }

// SetCTMark makes register 1 the connection's mark.
func SetCTMark() expr.Any { return &expr.Ct{Key: expr.CtKeyMARK, Register: 1, SourceRegister: true} }

// CTMarkHas matches packets of connections whose mark has one of the bits.
func CTMarkHas(bits uint32) []expr.Any {
	return slices.Concat([]expr.Any{CTMark()}, mask(NativeUint32(bits)), []expr.Any{Cmp(expr.CmpOpNeq, make([]byte, 4))})
}

// EtherSAddr puts the source MAC into register 1.
func EtherSAddr() expr.Any {
	return &expr.Payload{DestRegister: 1, Base: expr.PayloadBaseLLHeader, Offset: 6, Len: 6}
}

// VXLANVNIIn matches VXLAN packets whose VNI is in the set. Its keys are those of VNIKey. The UDP port must have been matched before.
func VXLANVNIIn(set string) []expr.Any {
	const udpHeader = 8
	// The VNI is in the second word of the VXLAN header, before a byte that is reserved (RFC 7348, section 5).
	return slices.Concat([]expr.Any{&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseTransportHeader, Offset: udpHeader + 4, Len: 4}},
		mask(BigUint32(0xffffff00)), []expr.Any{&expr.Lookup{SourceRegister: 1, SetName: set}})
}

// VNIKey is a VNI as a key of VXLANVNIIn's set.
func VNIKey(vni uint32) []byte { return BigUint32(vni << 8) }

// Numgen puts the next of the numbers 0 to n-1, in turn, into register 1.
func Numgen(n int) expr.Any {
	return &expr.Numgen{Register: 1, Modulus: uint32(n), Type: unix.NFT_NG_INCREMENTAL}
}

// DNAT sends the connection to the address in register 1 and to the port in register ports; 0 keeps the port.
func DNAT(f Family, ports uint32) []expr.Any {
	return []expr.Any{&expr.NAT{Type: expr.NATTypeDestNAT, Family: uint32(f.Proto), RegAddrMin: 1, RegProtoMin: ports}}
}

// PortRegister is a register behind register 1 with an address of either family in it.
const PortRegister = 2

// DNATTo sends the connection to the address and port.
func DNATTo(a netip.Addr, port uint16) []expr.Any {
	return append([]expr.Any{&expr.Immediate{Register: 1, Data: a.AsSlice()}, LoadPort(port)}, DNAT(FamilyOf(a), PortRegister)...)
}

// LoadPort puts the port into PortRegister.
func LoadPort(port uint16) expr.Any {
	return &expr.Immediate{Register: PortRegister, Data: BigUint16(port)}
}

// SNATTo gives the connection the address as its source.
func SNATTo(a netip.Addr) []expr.Any {
	return []expr.Any{&expr.Immediate{Register: 1, Data: a.AsSlice()},
		&expr.NAT{Type: expr.NATTypeSourceNAT, Family: uint32(FamilyOf(a).Proto), RegAddrMin: 1}}
}

// Masquerade gives the connection the outgoing interface's address as its source.
func Masquerade() []expr.Any { return []expr.Any{&expr.Masq{}} }

// discardPort is where nothing listens (RFC 863): what is redirected there is refused at once.
const discardPort = 9

// Refuse answers a connection attempt of the protocol (IPPROTO_*) as a host with no listener does. NAT chains know no reject.
func Refuse(proto byte) []expr.Any {
	return append(L4Proto(proto), &expr.Immediate{Register: 1, Data: BigUint16(discardPort)}, &expr.Redir{RegisterProtoMin: 1})
}

// Verdict ends the rule with a verdict that names no chain.
func Verdict(kind expr.VerdictKind) []expr.Any { return []expr.Any{&expr.Verdict{Kind: kind}} }

// Goto ends the rule by going on in the chain for good.
func Goto(chain string) []expr.Any {
	return []expr.Any{&expr.Verdict{Kind: expr.VerdictGoto, Chain: chain}}
}
