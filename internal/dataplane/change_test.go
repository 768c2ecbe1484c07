package dataplane

import (
	"fmt"
	"maps"
	"net/netip"
	"strings"
	"testing"

	"github.com/google/nftables"
	"github.com/vishvananda/netlink"
	"pgregory.net/rapid"

	"github.com/shoal-dev/shoal/internal/dataplane/netns"
	"github.com/shoal-dev/shoal/internal/dataplane/netnstest"
	"github.com/shoal-dev/shoal/internal/dataplane/vxlan"
	"github.com/shoal-dev/shoal/internal/shoal"
)

// contents is what the kernel has in a namespace's table.
type contents struct {
	elements map[string]map[string]string // by set, then key
	rules    map[string]int               // by chain
}

func contentsOf(ns *netns.Namespace) (*contents, error) {
	conn, err := nftables.New(nftables.WithNetNSFd(ns.FD()))
	if err != nil {
		return nil, err
	}
	tables, err := conn.ListTables()
	if err != nil || len(tables) != 1 {
		return nil, fmt.Errorf("%d tables: %w", len(tables), err)
	}
	sets, err := conn.GetSets(tables[0])
	if err != nil {
		return nil, err
	}
	c := &contents{map[string]map[string]string{}, map[string]int{}}
	for _, s := range sets {
		list, err := conn.GetSetElements(s)
		if err != nil {
			return nil, err
		}
		c.elements[s.Name] = map[string]string{}
		for _, e := range list {
			if c.elements[s.Name][string(e.Key)] = string(e.Val); s.DataType == nftables.TypeVerdict {
				c.elements[s.Name][string(e.Key)] = "" // not decoded by the library
			}
		}
	}
	chains, err := conn.ListChains()
	if err != nil {
		return nil, err
	}
	for _, chain := range chains {
		rules, err := conn.GetRules(tables[0], chain)
		if err != nil {
			return nil, err
		}
		c.rules[chain.Name] = len(rules)
	}
	return c, nil
}

// requireSame fails unless the kernel has what it would have if the last config were the first. It may have counters and slots that nothing takes any
// more.
func requireSame(t *rapid.T, changed, whole *contents) {
	t.Helper()
	for name, want := range whole.elements {
		have := maps.Clone(changed.elements[name])
		if name == "turns" || strings.HasPrefix(name, "slots") {
			maps.DeleteFunc(have, func(key, _ string) bool { _, ok := want[key]; return !ok })
		}
		if !maps.Equal(have, want) {
			t.Fatalf("%s has %q, want %q", name, have, want)
		}
	}
	for name, set := range changed.elements {
		if _, ok := whole.elements[name]; !ok && len(set) > 0 {
			t.Fatalf("%s has %q, want no such set", name, set)
		}
	}
	for name, want := range whole.rules {
		if have, ok := changed.rules[name]; !ok || have != want {
			t.Fatalf("%s has %d rules, want %d", name, have, want)
		}
	}
}
func drawBackends(t *rapid.T) []netip.Addr {
	var out []netip.Addr
	for i := range rapid.IntRange(0, 4).Draw(t, "backends") {
		out = append(out, netip.AddrFrom4([4]byte{10, 0, 1, byte(100 + 10*rapid.IntRange(0, 3).Draw(t, "backend") + i)}))
	}
	return out
}

// change makes a random change to a config.
func change(t *rapid.T, c *Config) *Config {
	next := *c
	overlay, sandbox := *c.Overlays["net"], *c.Sandboxes["s"]
	next.Overlays, next.Sandboxes = map[string]*Overlay{"net": &overlay}, map[string]*Sandbox{"s": &sandbox}
	number := byte(rapid.IntRange(2, 6).Draw(t, "number"))
	addr := netip.AddrFrom4([4]byte{10, 0, 1, number})
	services, key := sandbox.Services["net"], PortKey{Protocol: rapid.SampledFrom([]shoal.Protocol{shoal.TCP, shoal.UDP}).Draw(t, "protocol"), Port: 8000 + uint16(number)}
	switch rapid.IntRange(0, 8).Draw(t, "what") {
	case 0:
		services = services.Delete(addr)
	case 1, 2:
		services = services.Set(addr, &VIP{Addr: addr, Backends: drawBackends(t)})
	case 3:
		next.Mesh = next.Mesh.Delete(key)
	case 4:
		p := &MeshPort{}
		for _, b := range drawBackends(t) {
			p.Backends = append(p.Backends, Backend{Addr: b, Port: 80})
		}
		if rapid.Bool().Draw(t, "allow") {
			p.Rule.Allow = []netip.Prefix{netip.PrefixFrom(addr, 32)}
		}
		if rapid.Bool().Draw(t, "host") {
			p.Rule.HostIPs = []netip.Addr{netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("2001:db8::1")}
		}
		p.Rule.SNAT = rapid.Bool().Draw(t, "snat")
		next.Mesh = next.Mesh.Set(key, p)
	case 5:
		overlay.Remotes = overlay.Remotes.Delete(addr)
	case 6:
		mac := shoal.MACFor(netip.AddrFrom4([4]byte{10, 0, byte(rapid.IntRange(1, 2).Draw(t, "mac")), number}))
		overlay.Remotes = overlay.Remotes.Set(addr, Remote{MAC: mac, VTEP: netip.AddrFrom4([4]byte{127, 0, 0, byte(rapid.IntRange(2, 3).Draw(t, "node"))})})
	case 7:
		sandbox.Seed = uint32(number)
	case 8:
		sandbox.DNSPortUDP, sandbox.DNSPortTCP = uint16(number), uint16(number)+1
	}
	sandbox.Services = map[string]Services{"net": services}
	return &next
}

// Random changes, applied one after the other, lead to the same kernel state as their last config applied at once.
func TestChangesLeadToTheSameStateAsTheWholeConfig(t *testing.T) {
	p, fresh := newPlane(t, netnstest.New(t)), newPlane(t, netnstest.New(t))
	for _, p := range []*Plane{p, fresh} {
		if _, err := p.Namespace("s"); err != nil {
			t.Fatal(err)
		}
	}
	c := &Config{Overlays: map[string]*Overlay{"net": {ID: "net", VNI: 5000, Port: 4789, Local: netip.MustParseAddr("127.0.0.1")}}, Sandboxes: map[string]*Sandbox{"s": {}}}
	rapid.Check(t, func(rt *rapid.T) {
		for range rapid.IntRange(1, 8).Draw(rt, "steps") {
			c = change(rt, c)
			if err := p.Apply(t.Context(), c); err != nil {
				rt.Fatal(err)
			}
		}
		if parts := p.Drift(false); len(parts) > 0 {
			rt.Fatalf("what was applied is taken for drift: %v", parts)
		}
		// A fresh Plane takes the config as its first.
		fresh.Forget()
		if err := fresh.Apply(t.Context(), c); err != nil {
			rt.Fatal(err)
		}
		for _, at := range []func(*Plane, func(*netns.Namespace) error) error{
			func(p *Plane, f func(*netns.Namespace) error) error { return f(p.node) },
			func(p *Plane, f func(*netns.Namespace) error) error {
				return p.dir.Netlink("s", func(_ *netlink.Handle, ns *netns.Namespace) error { return f(ns) })
			},
		} {
			var tables []*contents
			for _, p := range []*Plane{p, fresh} {
				err := at(p, func(ns *netns.Namespace) error {
					have, err := contentsOf(ns)
					tables = append(tables, have)
					return err
				})
				if err != nil {
					rt.Fatal(err)
				}
			}
			requireSame(rt, tables[0], tables[1])
		}
		err := p.dir.Netlink(OverlayNamespace("net"), func(h *netlink.Handle, _ *netns.Namespace) error {
			link, err := h.LinkByName("vx0")
			if err != nil {
				return err
			}
			have, err := vxlan.List(h, link.Attrs().Index)
			if want := maps.Collect(c.Overlays["net"].Remotes.All()); err == nil && !maps.Equal(have, want) {
				err = fmt.Errorf("the VXLAN device has %v, want %v", have, want)
			}
			return err
		})
		if err != nil {
			rt.Fatal(err)
		}
	})
}
