package nft

import (
	"net/netip"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// Family is IPv4 or IPv6, as rules see them.
type Family struct {
	Proto        byte   // NFPROTO_IPV4 or NFPROTO_IPV6
	saddr, daddr uint32 // offsets in the header
	Size         uint32 // of an address, in bytes
	Type         nftables.SetDatatype
}

// IPv4 is the family of IPv4.
func IPv4() Family { return Family{unix.NFPROTO_IPV4, 12, 16, 4, nftables.TypeIPAddr} }

// IPv6 is the family of IPv6.
func IPv6() Family { return Family{unix.NFPROTO_IPV6, 8, 24, 16, nftables.TypeIP6Addr} }

// Families is both.
func Families() []Family { return []Family{IPv4(), IPv6()} }

// FamilyOf is the address's family.
func FamilyOf(a netip.Addr) Family {
	if a.Is4() {
		return IPv4()
	}
	return IPv6()
}

// Named is the name of a set, map or chain of which there is one per family: "mesh" and "mesh6".
func (f Family) Named(name string) string {
	if f.Proto == unix.NFPROTO_IPV6 {
		return name + "6"
	}
	return name
}

// Match matches packets of the family.
func (f Family) Match() []expr.Any {
	return []expr.Any{&expr.Meta{Key: expr.MetaKeyNFPROTO, Register: 1}, Cmp(expr.CmpOpEq, []byte{f.Proto})}
}

// LoadSAddr puts the packet's source address into the register.
func (f Family) LoadSAddr(register uint32) expr.Any {
	return &expr.Payload{DestRegister: register, Base: expr.PayloadBaseNetworkHeader, Offset: f.saddr, Len: f.Size}
}

// LoadDAddr puts the packet's destination address into the register.
func (f Family) LoadDAddr(register uint32) expr.Any {
	return &expr.Payload{DestRegister: register, Base: expr.PayloadBaseNetworkHeader, Offset: f.daddr, Len: f.Size}
}
