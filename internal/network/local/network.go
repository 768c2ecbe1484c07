package local

import (
	"net/netip"
	"strconv"
	"time"

	"github.com/shoal-dev/shoal/internal/network/ipam"
	"github.com/shoal-dev/shoal/internal/shoal"
)

// Options of networks that are honoured.
const (
	optionBridgeName = "com.docker.network.bridge.name"
	optionICC        = "com.docker.network.bridge.enable_icc"
	optionMasquerade = "com.docker.network.bridge.enable_ip_masquerade"
	// optionMacvlanParent is the node's interface that a macvlan network is on.
	optionMacvlanParent = "parent"
)

// Network is a network of this node alone. Its shoal.Network is not changed once it is made.
type Network struct {
	shoal.Network
	pool  *ipam.Allocator // nil for host, none and configuration-only networks
	pool6 *ipam.Allocator // nil for a network without IPv6
}

func newNetwork(net shoal.Network) *Network {
	n := &Network{Network: net}
	if allocates(net.Spec.Driver) {
		n.pool = newAllocator(net.IPAM[0])
	}
	if s := n.subnet6(); s != nil {
		n.pool6 = newAllocator(*s)
	}
	return n
}

// allocates tells whether the node allocates the addresses of a driver's networks.
func allocates(driver string) bool {
	return driver == shoal.DriverBridge || driver == shoal.DriverMacvlan
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
func (n *Network) HasEndpoints() bool { return n.pool != nil }

// IsBridge tells whether the network is a bridge of the node.
func (n *Network) IsBridge() bool { return n.pool != nil && n.Spec.Driver == shoal.DriverBridge }

// Bridge is the name of a bridge network's interface.
func (n *Network) Bridge() string {
	if name := n.Spec.Options[optionBridgeName]; name != "" {
		return name
	}
	return string("br-" + n.ID[:12])
}

// Parent is the node's interface that a macvlan network is on; empty for another network.
func (n *Network) Parent() string {
	if n.Spec.Driver != shoal.DriverMacvlan {
		return ""
	}
	return n.Spec.Options[optionMacvlanParent]
}

// ICC tells whether the containers of a bridge may talk to each other.
func (n *Network) ICC() bool { return n.option(optionICC) }

// Masquerade tells whether what leaves the node from a bridge gets the node's address.
func (n *Network) Masquerade() bool { return n.option(optionMasquerade) }

// option is a setting that is on unless it is turned off.
func (n *Network) option(name string) bool {
	on, err := strconv.ParseBool(n.Spec.Options[name])
	return on || err != nil
}

// MTU is the one that was asked for, in bytes; 0 for the default.
func (n *Network) MTU() int {
	mtu, _ := strconv.Atoi(n.Spec.Options[shoal.OptionMTU])
	return mtu
}

// Gateway is the node's own address with the prefix length of the subnet, for a network that HasEndpoints.
func (n *Network) Gateway() netip.Prefix {
	return netip.PrefixFrom(n.IPAM[0].Gateway, n.IPAM[0].Subnet.Bits())
}

// Gateway6 is the same for IPv6. It is invalid for a network without IPv6.
func (n *Network) Gateway6() netip.Prefix {
	s := n.subnet6()
	if s == nil {
		return netip.Prefix{}
	}
	return netip.PrefixFrom(s.Gateway, s.Subnet.Bits())
}

// subnet6 is the network's IPv6 subnet; nil if it has none. The first of its subnets is always an IPv4 one.
func (n *Network) subnet6() *shoal.Subnet {
	for i := range n.IPAM {
		if n.IPAM[i].Subnet.Addr().Is6() {
			return &n.IPAM[i]
		}
	}
	return nil
}

// Take allocates the addresses of an endpoint: the wanted ones if they are valid. The second one is invalid for a network without IPv6.
func (n *Network) Take(want, want6 netip.Addr) (addr, addr6 netip.Prefix, err error) {
	a, err := n.pool.Take(want, time.Now())
	if err != nil {
		return addr, addr6, err
	}
	if n.pool6 != nil {
		a6, err := n.pool6.Take(want6, time.Now())
		if err != nil {
			n.pool.Release(a, time.Now())
			return addr, addr6, err
		}
		addr6 = netip.PrefixFrom(a6, n.Gateway6().Bits())
	}
	return netip.PrefixFrom(a, n.Gateway().Bits()), addr6, nil
}

// Reserve marks the addresses of an endpoint that is there already as in use.
func (n *Network) Reserve(addr, addr6 netip.Prefix) {
	if n.pool == nil {
		return
	}
	n.pool.Reserve(addr.Addr())
	if n.pool6 != nil && addr6.IsValid() {
		n.pool6.Reserve(addr6.Addr())
	}
}

// Release frees the addresses of an endpoint that is gone.
func (n *Network) Release(addr, addr6 netip.Prefix) {
	if n.pool == nil {
		return
	}
	n.pool.Release(addr.Addr(), time.Now())
	if n.pool6 != nil && addr6.IsValid() {
		n.pool6.Release(addr6.Addr(), time.Now())
	}
}
