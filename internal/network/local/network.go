package local

import (
	"fmt"
	"net/netip"
	"time"

	"github.com/containerd/errdefs"

	"github.com/shoal-dev/shoal/internal/network/ipam"
	"github.com/shoal-dev/shoal/internal/shoal"
)

// Network is a network of this node alone. Its shoal.Network is not changed once it is made.
type Network struct {
	shoal.Network
	pool  *ipam.Allocator // nil for a network without IPv4, and for host, none and configuration-only networks
	pool6 *ipam.Allocator // nil for a network without IPv6, and for the same
}

func newNetwork(net shoal.Network) *Network {
	n := &Network{Network: net}
	if !allocates(net.Spec.Driver) {
		return n
	}
	if s := n.subnet(true); s != nil {
		n.pool = newAllocator(*s)
	}
	if s := n.subnet(false); s != nil {
		n.pool6 = newAllocator(*s)
	}
	return n
}

// allocates tells whether the node allocates the addresses of a driver's networks.
func allocates(driver string) bool {
	return driver == shoal.DriverBridge || driver == shoal.DriverMacvlan || driver == shoal.DriverIPvlan
}

// newAllocator allocates a subnet's addresses, except for the gateway and the auxiliary addresses.
func newAllocator(s shoal.Subnet) *ipam.Allocator {
	pool := ipam.NewAllocator(s.Subnet, s.Range)
	pool.Reserve(s.Gateway)
	for _, aux := range s.Aux {
		pool.Reserve(aux)
	}
	return pool
}

// HasEndpoints tells whether containers get endpoints on the network. They get none on host, none and configuration-only networks.
func (n *Network) HasEndpoints() bool { return n.pool != nil || n.pool6 != nil }

// IsBridge tells whether the network is a bridge of the node.
func (n *Network) IsBridge() bool { return n.HasEndpoints() && n.Spec.Driver == shoal.DriverBridge }

// Bridge is the name of a bridge network's interface.
func (n *Network) Bridge() string {
	if name := n.Spec.Options[optionBridgeName]; name != "" {
		return name
	}
	return string("br-" + n.ID[:12])
}

// Gateway is the node's own address with the prefix length of the subnet. It is invalid for a network without IPv4, or without a gateway.
func (n *Network) Gateway() netip.Prefix { return gatewayOf(n.subnet(true)) }

// Gateway6 is the same for IPv6.
func (n *Network) Gateway6() netip.Prefix { return gatewayOf(n.subnet(false)) }

func gatewayOf(s *shoal.Subnet) netip.Prefix {
	if s == nil || !s.Gateway.IsValid() {
		return netip.Prefix{}
	}
	return netip.PrefixFrom(s.Gateway, s.Subnet.Bits())
}

// subnet is the network's first subnet of a family; nil if it has none.
func (n *Network) subnet(is4 bool) *shoal.Subnet {
	for i := range n.IPAM {
		if n.IPAM[i].Subnet.IsValid() && n.IPAM[i].Subnet.Addr().Is4() == is4 {
			return &n.IPAM[i]
		}
	}
	return nil
}

// Take allocates the addresses of an endpoint: the wanted ones if they are valid. One of a family that the network does not have is invalid. Errors have
// Docker's words.
func (n *Network) Take(want, want6 netip.Addr) (addr, addr6 netip.Prefix, err error) {
	if addr, err = take(n.pool, n.subnet(true), want); err != nil {
		return addr, addr6, err
	}
	if addr6, err = take(n.pool6, n.subnet(false), want6); err != nil {
		n.Release(addr, netip.Prefix{})
		return netip.Prefix{}, addr6, err
	}
	return addr, addr6, nil
}

func take(pool *ipam.Allocator, subnet *shoal.Subnet, want netip.Addr) (netip.Prefix, error) {
	if pool == nil {
		if want.IsValid() {
			return netip.Prefix{}, errdefs.ErrInvalidArgument.WithMessage(fmt.Sprintf("invalid endpoint settings:\nno configured subnet contains IP address %s", want))
		}
		return netip.Prefix{}, nil
	}
	addr, err := pool.Take(want, time.Now())
	return netip.PrefixFrom(addr, subnet.Subnet.Bits()), err
}

// Reserve marks the addresses of an endpoint that is there already as in use.
func (n *Network) Reserve(addr, addr6 netip.Prefix) {
	if n.pool != nil && addr.IsValid() {
		n.pool.Reserve(addr.Addr())
	}
	if n.pool6 != nil && addr6.IsValid() {
		n.pool6.Reserve(addr6.Addr())
	}
}

// Release frees the addresses of an endpoint that is gone.
func (n *Network) Release(addr, addr6 netip.Prefix) {
	if n.pool != nil && addr.IsValid() {
		n.pool.Release(addr.Addr(), time.Now())
	}
	if n.pool6 != nil && addr6.IsValid() {
		n.pool6.Release(addr6.Addr(), time.Now())
	}
}
