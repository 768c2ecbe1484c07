// Package ipam finds free subnets and allocates the addresses of a subnet. It reads and writes nothing: its values know only what they are told.
package ipam

import (
	"crypto/rand"
	"encoding/binary"
	"net/netip"

	"github.com/containerd/errdefs"
)

// Pool is an IPv4 range that subnets of a size are cut from.
type Pool struct {
	Base netip.Prefix
	// Size is the prefix length of each subnet, in bits. One shorter than Base's stands for all of Base.
	Size int
}

// DefaultPools is Docker's: 172.17.0.0/16 to 172.31.0.0/16, then 192.168.0.0/16 by /20.
func DefaultPools() []Pool {
	var pools []Pool
	for i := 17; i < 32; i++ {
		pools = append(pools, Pool{netip.PrefixFrom(netip.AddrFrom4([4]byte{172, byte(i)}), 16), 16})
	}
	return append(pools, Pool{netip.MustParsePrefix("192.168.0.0/16"), 20})
}

// errNoPool is Docker's text for when every subnet is taken.
func errNoPool() error {
	return errdefs.ErrInvalidArgument.WithMessage("all predefined address pools have been fully subnetted")
}

// FreeSubnet is the first subnet of the pools that overlaps none of those in use. The error, if there is none, has Docker's words.
func FreeSubnet(pools []Pool, used []netip.Prefix) (netip.Prefix, error) {
	for _, pool := range pools {
		size := max(pool.Size, pool.Base.Bits())
		base, step := number(pool.Base.Masked().Addr()), uint64(1)<<(32-size)
		end := uint64(base) + uint64(1)<<(32-pool.Base.Bits())
		for at := uint64(base); at < end; at += step {
			candidate := netip.PrefixFrom(address(uint32(at)), size)
			if !Overlaps(candidate, used) {
				return candidate, nil
			}
		}
	}
	return netip.Prefix{}, errNoPool()
}

// UniqueLocalSubnet is a random /64 of unique local addresses (RFC 4193) that overlaps none of those in use.
func UniqueLocalSubnet(used []netip.Prefix) netip.Prefix {
	for {
		b := [16]byte{0: 0xfd}
		_, _ = rand.Read(b[1:6]) // never fails
		if p := netip.PrefixFrom(netip.AddrFrom16(b), 64); !Overlaps(p, used) {
			return p
		}
	}
}

// Overlaps tells whether the prefix overlaps any of the others.
func Overlaps(p netip.Prefix, others []netip.Prefix) bool {
	for _, o := range others {
		if o.Overlaps(p) {
			return true
		}
	}
	return false
}

func number(a netip.Addr) uint32 {
	b := a.As4()
	return binary.BigEndian.Uint32(b[:])
}

func address(v uint32) netip.Addr {
	return netip.AddrFrom4([4]byte{byte(v >> 24), byte(v >> 16), byte(v >> 8), byte(v)})
}

// Addrs is the addresses of the prefixes that are valid, in their order.
func Addrs(prefixes ...netip.Prefix) []netip.Addr {
	var out []netip.Addr
	for _, p := range prefixes {
		if p.IsValid() {
			out = append(out, p.Addr())
		}
	}
	return out
}
