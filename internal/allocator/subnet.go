package allocator

import (
	"fmt"
	"net/netip"
	"reflect"

	"github.com/shoal-dev/shoal/internal/shoal"
	"github.com/shoal-dev/shoal/internal/store"
)

// defaultPool is what subnets are cut from when the cluster names none.
const (
	defaultPool       = "10.0.0.0/8"
	defaultSubnetSize = 24
	maxVNI            = 1<<24 - 1
)

// network gives a network its VNI and subnets.
func network(v store.View, id shoal.ID) store.Changes {
	n := v.Network(id)
	if n == nil || (n.VNI != 0 && len(n.IPAM) > 0) || (n.Spec.Driver != "" && n.Spec.Driver != shoal.DriverOverlay) {
		return store.Changes{}
	}
	next := *n
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
	has4 := false
	for _, s := range asked {
		if p, err := netip.ParsePrefix(s.Subnet); s.Subnet == "" || (err == nil && p.Addr().Is4()) {
			has4 = true
		}
	}
	if !has4 {
		asked = append([]shoal.Subnet{{}}, asked...)
	}
	var done []shoal.Subnet
	for _, s := range asked {
		if s.Subnet == "" {
			p, err := freeSubnet(v, done)
			if err != nil {
				return nil, err
			}
			s.Subnet = p.String()
		} else if err := CheckSubnets(v, n.ID, []shoal.Subnet{s}); err != nil {
			return nil, err
		}
		p, err := netip.ParsePrefix(s.Subnet)
		if err != nil {
			return nil, fmt.Errorf("parse subnet: %w", err)
		}
		s.Subnet = p.Masked().String()
		if s.Gateway == "" {
			s.Gateway = p.Masked().Addr().Next().String()
		}
		done = append(done, s)
	}
	return done, nil
}

// freeSubnet is the first subnet of the default pools that overlaps nothing.
func freeSubnet(v store.View, also []shoal.Subnet) (netip.Prefix, error) {
	pools, size := []string{defaultPool}, defaultSubnetSize
	if c := v.Cluster(); c != nil {
		if len(c.DefaultAddrPool) > 0 {
			pools = c.DefaultAddrPool
		}
		if c.SubnetSize > 0 {
			size = int(c.SubnetSize)
		}
	}
	taken := append(usedPrefixes(v, ""), routes(v)...)
	for _, s := range also {
		if p, err := netip.ParsePrefix(s.Subnet); err == nil {
			taken = append(taken, p)
		}
	}
	for _, text := range pools {
		pool, err := netip.ParsePrefix(text)
		if err != nil || size < pool.Bits() || !pool.Addr().Is4() {
			continue
		}
		for p := netip.PrefixFrom(pool.Masked().Addr(), size); p.IsValid() && pool.Contains(p.Addr()); {
			hit := overlapping(p, taken)
			if !hit.IsValid() {
				return p, nil
			}
			if hit.Bits() > p.Bits() {
				hit = p
			}
			p = netip.PrefixFrom(lastAddr(hit).Next(), size).Masked() // over whatever is in the way at once
		}
	}
	return netip.Prefix{}, fmt.Errorf("could not find an available, non-overlapping IPv4 address pool among the defaults to assign to the network")
}

func overlapping(p netip.Prefix, taken []netip.Prefix) netip.Prefix {
	for _, t := range taken {
		if p.Overlaps(t) {
			return t
		}
	}
	return netip.Prefix{}
}

// usedPrefixes is the subnets of all networks but one.
func usedPrefixes(v store.View, except shoal.ID) []netip.Prefix {
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
			if p, err := netip.ParsePrefix(s.Subnet); err == nil {
				all = append(all, p.Masked())
			}
		}
	}
	return all
}

func routes(v store.View) []netip.Prefix {
	var all []netip.Prefix
	for _, n := range v.Nodes() {
		for _, r := range n.Description.Routes {
			if p, err := netip.ParsePrefix(r); err == nil && p.Bits() > 0 {
				all = append(all, p.Masked())
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

// CheckSubnets refuses subnets that are not well-formed or overlap a network other than self or one another. The API asks it
// before it writes a network, and the allocator again, because two managers may have been asked at once.
func CheckSubnets(v store.View, self shoal.ID, asked []shoal.Subnet) error {
	taken := usedPrefixes(v, self)
	for _, s := range asked {
		if s.Subnet == "" {
			continue
		}
		p, err := netip.ParsePrefix(s.Subnet)
		if err != nil {
			return shoal.InvalidArgument("invalid subnet %s: invalid CIDR address: %s", s.Subnet, s.Subnet)
		}
		if s.Gateway != "" {
			if gw, err := netip.ParseAddr(s.Gateway); err != nil || !p.Contains(gw) {
				return shoal.InvalidArgument("invalid gateway %s: not in subnet %s", s.Gateway, s.Subnet)
			}
		}
		if hit := overlapping(p, taken); hit.IsValid() {
			return shoal.InvalidArgument("invalid pool request: Pool overlaps with other one on this address space")
		}
		taken = append(taken, p)
	}
	return nil
}
