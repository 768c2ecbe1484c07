package dataplane

import (
	"fmt"
	"maps"
	"net/netip"
	"strings"
	"testing"

	"github.com/google/nftables"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"pgregory.net/rapid"

	"github.com/shoal-dev/shoal/internal/dataplane/netnstest"
	"github.com/shoal-dev/shoal/internal/dataplane/pmap"
	"github.com/shoal-dev/shoal/internal/shoal"
)

// elements is what the kernel has in a set.
func elements(t *rapid.T, tb *tables, rs *ruleset, set string) map[string]string {
	tx := &transaction{table: tb.table}
	list, err := tb.conn.GetSetElements(tx.kernelSet(set, rs.sets[set]))
	if err != nil {
		t.Fatalf("list %s: %v", set, err)
	}
	out := map[string]string{}
	for _, e := range list {
		if out[string(e.Key)] = string(e.Val); rs.sets[set].data == nftables.TypeVerdict {
			out[string(e.Key)] = "" // not decoded by the library
		}
	}
	return out
}

// agree fails unless the kernel holds what rs says. It may hold turns that nothing takes any more.
func agree(t *rapid.T, tb *tables, rs *ruleset) {
	t.Helper()
	for name, set := range rs.sets {
		want, have := map[string]string{}, elements(t, tb, rs, name)
		for key, e := range set.elements {
			want[key] = string(e.Val)
		}
		for key, chain := range have {
			if _, ok := want[key]; (name == "turns" || strings.HasPrefix(name, "slots")) && !ok {
				want[key] = chain
			}
		}
		if !maps.Equal(have, want) {
			t.Fatalf("%s has %q, want %q", name, have, want)
		}
	}
	for name, chain := range rs.chains {
		rules, err := tb.conn.GetRules(tb.table, &nftables.Chain{Table: tb.table, Name: name})
		if err != nil || len(rules) != len(chain.rules) {
			t.Fatalf("%s has %d rules, want %d (%v)", name, len(rules), len(chain.rules), err)
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
	services, key := sandbox.Services["net"], PortKey{rapid.SampledFrom([]shoal.Protocol{shoal.TCP, shoal.UDP}).Draw(t, "protocol"), 8000 + uint16(number)}
	switch rapid.IntRange(0, 8).Draw(t, "what") {
	case 0:
		services = services.Delete(addr)
	case 1, 2:
		services = services.Set(addr, &VIP{addr, drawBackends(t)})
	case 3:
		next.Mesh = next.Mesh.Delete(key)
	case 4:
		p := &MeshPort{}
		for _, b := range drawBackends(t) {
			p.Backends = append(p.Backends, Backend{b, 80})
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
		mac := MAC(netip.AddrFrom4([4]byte{10, 0, byte(rapid.IntRange(1, 2).Draw(t, "mac")), number}))
		overlay.Remotes = overlay.Remotes.Set(addr, Remote{mac, netip.AddrFrom4([4]byte{127, 0, 0, byte(rapid.IntRange(2, 3).Draw(t, "node"))})})
	case 7:
		sandbox.Seed = uint32(number)
	case 8:
		sandbox.DNSPortUDP, sandbox.DNSPortTCP = uint16(number), uint16(number)+1
	}
	sandbox.Services = map[string]Services{"net": services}
	return &next
}

// TestChangesLeadWhereTheWholeDoes applies random changes one after the other, and holds the kernel against what the last config says.
func TestChangesLeadWhereTheWholeDoes(t *testing.T) {
	p := newPlane(t, netnstest.New(t))
	if _, err := p.Namespace("s"); err != nil {
		t.Fatal(err)
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
		sandbox := c.Sandboxes["s"]
		whole := &sandboxState{config: sandbox, vipTable: newVIPTable()}
		rules := sandbox.frame()
		whole.write(rules, sandbox.changes(&Sandbox{}))
		agree(rt, p.tables["s"], rules)
		node := newRuleset()
		node.include(nodeRules(c))
		(&nodeState{vipTable: newVIPTable()}).write(node, pmap.Changes(MeshPorts{}, c.Mesh))
		agree(rt, p.tables[nodeTables], node)
		err := p.look(OverlayNamespace("net"), func(h *netlink.Handle, _ netns.NsHandle) error {
			link, err := h.LinkByName(overlayTunnel)
			if err != nil {
				return err
			}
			have, err := programmed(h, link.Attrs().Index)
			if want := maps.Collect(c.Overlays["net"].Remotes.All()); err == nil && !maps.Equal(have, want) {
				err = fmt.Errorf("the tunnel has %v, want %v", have, want)
			}
			return err
		})
		if err != nil {
			rt.Fatal(err)
		}
	})
}
