package allocator

import (
	"cmp"
	"crypto/sha256"
	"fmt"
	"net/netip"
	"reflect"
	"slices"

	"github.com/shoal-dev/shoal/internal/shoal"
	"github.com/shoal-dev/shoal/internal/store"
)

const (
	defaultSubnetSize = 24
	subnetSize6       = 64
	maxVNI            = 1<<24 - 1
)

// defaultPool is what subnets are cut from when the cluster names nothing else: 10.0.0.0/8, as in Docker.
func defaultPool() netip.Prefix { return netip.PrefixFrom(netip.AddrFrom4([4]byte{10}), 8) }

// network gives a network its VNI and subnets, and one that has them already an IPv6 subnet when it may have one now.
func network(v store.View, id shoal.NetworkID) store.Changes {
	n := v.Network(id)
	if n == nil || (n.Spec.Driver != "" && n.Spec.Driver != shoal.DriverOverlay) {
		return store.Changes{}
	}
	next := *n
	if n.VNI != 0 && len(n.IPAM) > 0 {
		if hasIPv6(n.IPAM) || !wantsIPv6(v, n) {
			return store.Changes{}
		}
		subnet, err := freeIPv6Subnet(v)
		if err != nil {
			return store.Changes{} // the network works without IPv6
		}
		next.IPAM = append(slices.Clone(n.IPAM), subnet)
		return store.Changes{Puts: []store.Object{&next}}
	}
	next.Err = ""
	ipam, err := subnets(v, n)
	if err == nil {
		next.IPAM = ipam
		next.VNI, err = freeVNI(v, n.Spec.Ingress)
	}
	if err != nil {
		next.VNI, next.IPAM, next.Err = 0, nil, err.Error()
	}
	if next.VNI == n.VNI && next.Err == n.Err && reflect.DeepEqual(next.IPAM, n.IPAM) {
		return store.Changes{}
	}
	return store.Changes{Puts: []store.Object{&next}}
}

func freeVNI(v store.View, ingress bool) (uint32, error) {
	used := map[uint32]bool{}
	for _, n := range v.Networks() {
		used[n.VNI] = true
	}
	for _, t := range v.Tasks() {
		for _, at := range t.Networks {
			used[at.VNI] = used[at.VNI] || !t.Status.State.Ended()
		}
	}
	first := uint32(shoal.FirstVNI)
	if !ingress {
		first++
	}
	for vni := first; vni <= maxVNI; vni++ {
		if !used[vni] {
			return vni, nil
		}
	}
	return 0, fmt.Errorf("no VXLAN ID is left")
}

// subnets completes what the spec asks for: a subnet of the default pool if it asks for none, and gateways.
func subnets(v store.View, n *shoal.Network) ([]shoal.Subnet, error) {
	asked := n.Spec.IPAM
	if !slices.ContainsFunc(asked, func(s shoal.Subnet) bool { return family(s) == 4 }) {
		asked = append([]shoal.Subnet{{}}, asked...)
	}
	var done []shoal.Subnet
	for _, s := range asked {
		if !s.Subnet.IsValid() {
			p, err := freeSubnet(v, done)
			if err != nil {
				return nil, err
			}
			s.Subnet = p
		} else if err := CheckSubnets(v, n.ID, []shoal.Subnet{s}); err != nil {
			return nil, err
		}
		s.Subnet = s.Subnet.Masked()
		done = append(done, withGateway(s))
	}
	if wantsIPv6(v, n) && !hasIPv6(done) {
		s, err := freeIPv6Subnet(v)
		if err != nil {
			return nil, err
		}
		done = append(done, s)
	}
	slices.SortStableFunc(done, func(a, b shoal.Subnet) int { return cmp.Compare(family(a), family(b)) })
	return done, nil
}

// withGateway makes the first address of a subnet its gateway, unless another is.
func withGateway(s shoal.Subnet) shoal.Subnet {
	if !s.Gateway.IsValid() {
		s.Gateway = s.Subnet.Addr().Next()
	}
	return s
}

// family is 4 or 6. A subnet that is still to be chosen is of IPv4.
func family(s shoal.Subnet) int {
	if s.Subnet.Addr().Is6() {
		return 6
	}
	return 4
}

func hasIPv6(subnets []shoal.Subnet) bool {
	return slices.ContainsFunc(subnets, func(s shoal.Subnet) bool { return family(s) == 6 })
}

// wantsIPv6 tells whether a network is to have an IPv6 subnet: when the user asks for it, and the ingress network, if it is as the
// cluster made it, as soon as all managers have IPv6.
func wantsIPv6(v store.View, n *shoal.Network) bool {
	if n.Spec.EnableIPv6 || !n.Spec.Ingress || len(n.Spec.IPAM) > 0 {
		return n.Spec.EnableIPv6
	}
	managers := slices.DeleteFunc(v.Nodes(), func(n *shoal.Node) bool { return n.Role != shoal.RoleManager })
	return len(managers) > 0 && !slices.ContainsFunc(managers, func(n *shoal.Node) bool { return len(n.Description.Addrs6) == 0 })
}

// mayGrow tells whether the allocator may add IPv4 subnets to a network: not when the user has chosen one.
func mayGrow(n *shoal.Network) bool {
	return !slices.ContainsFunc(n.Spec.IPAM, func(s shoal.Subnet) bool { return s.Subnet.IsValid() && family(s) == 4 })
}

// freeIPv6Subnet is the first free /64 of the cluster's own /48, a unique local prefix (RFC 4193) that follows from the cluster's ID.
func freeIPv6Subnet(v store.View) (shoal.Subnet, error) {
	var id shoal.ClusterID
	if c := v.Cluster(); c != nil {
		id = c.ID
	}
	hash := sha256.Sum256([]byte(id))
	addr := [16]byte{0: 0xfd}
	copy(addr[1:6], hash[:])
	p := firstFreePrefix(netip.PrefixFrom(netip.AddrFrom16(addr), 48), subnetSize6, append(usedPrefixes(v, ""), routes(v)...))
	if !p.IsValid() {
		return shoal.Subnet{}, fmt.Errorf("could not find an available, non-overlapping IPv6 address pool among the defaults to assign to the network")
	}
	return withGateway(shoal.Subnet{Subnet: p}), nil
}

// freeSubnet is the first subnet of the default pools that overlaps nothing.
func freeSubnet(v store.View, also []shoal.Subnet) (netip.Prefix, error) {
	pools, size := []netip.Prefix{defaultPool()}, defaultSubnetSize
	if c := v.Cluster(); c != nil {
		if len(c.DefaultAddrPool) > 0 {
			pools = c.DefaultAddrPool
		}
		if c.SubnetSize > 0 {
			size = int(c.SubnetSize)
		}
	}
	used := append(usedPrefixes(v, ""), routes(v)...)
	for _, s := range also {
		if s.Subnet.IsValid() {
			used = append(used, s.Subnet)
		}
	}
	for _, pool := range pools {
		if size < pool.Bits() || !pool.Addr().Is4() {
			continue
		}
		if p := firstFreePrefix(pool, size, used); p.IsValid() {
			return p, nil
		}
	}
	return netip.Prefix{}, fmt.Errorf("could not find an available, non-overlapping IPv4 address pool among the defaults to assign to the network")
}

// firstFreePrefix is the first prefix of a size in the pool that overlaps no used one; not valid if there is none.
func firstFreePrefix(pool netip.Prefix, size int, used []netip.Prefix) netip.Prefix {
	for p := netip.PrefixFrom(pool.Masked().Addr(), size); p.IsValid() && pool.Contains(p.Addr()); {
		hit := overlapping(p, used)
		if !hit.IsValid() {
			return p
		}
		if hit.Bits() > p.Bits() {
			hit = p
		}
		p = netip.PrefixFrom(lastAddr(hit).Next(), size).Masked() // over whatever is in the way at once
	}
	return netip.Prefix{}
}

func overlapping(p netip.Prefix, used []netip.Prefix) netip.Prefix {
	for _, t := range used {
		if p.Overlaps(t) {
			return t
		}
	}
	return netip.Prefix{}
}

// usedPrefixes is the subnets of all networks but one.
func usedPrefixes(v store.View, except shoal.NetworkID) []netip.Prefix {
	var all []netip.Prefix
	for _, n := range v.Networks() {
		if n.ID == except {
			continue
		}
		given := n.IPAM
		if len(given) == 0 && n.Err == "" {
			given = n.Spec.IPAM // asked for and not looked at yet
		}
		for _, s := range given {
			if s.Subnet.IsValid() {
				all = append(all, s.Subnet.Masked())
			}
		}
	}
	return all
}

func routes(v store.View) []netip.Prefix {
	var all []netip.Prefix
	for _, n := range v.Nodes() {
		for _, r := range n.Description.Routes {
			if r.Bits() > 0 {
				all = append(all, r.Masked())
			}
		}
	}
	return all
}

func lastAddr(p netip.Prefix) netip.Addr {
	b := p.Masked().Addr().AsSlice()
	for bit := p.Bits(); bit < len(b)*8; bit++ {
		b[bit/8] |= 1 << (7 - bit%8)
	}
	a, _ := netip.AddrFromSlice(b)
	return a
}

// CheckSubnets refuses subnets whose gateway is not theirs, and those that overlap a network other than self or one another. The API asks it
// before it writes a network, and the allocator again, because two managers may have been asked at once.
func CheckSubnets(v store.View, self shoal.NetworkID, asked []shoal.Subnet) error {
	used := usedPrefixes(v, self)
	for _, s := range asked {
		if !s.Subnet.IsValid() {
			continue
		}
		if s.Gateway.IsValid() && !s.Subnet.Contains(s.Gateway) {
			return shoal.InvalidArgument("invalid gateway %s: not in subnet %s", s.Gateway, s.Subnet)
		}
		if hit := overlapping(s.Subnet, used); hit.IsValid() {
			return shoal.InvalidArgument("invalid pool request: Pool overlaps with other one on this address space")
		}
		used = append(used, s.Subnet)
	}
	return nil
}
