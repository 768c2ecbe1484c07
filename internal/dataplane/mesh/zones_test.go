package mesh

import (
	"net/netip"
	"os/exec"
	"strings"
	"testing"

	"github.com/shoal-dev/shoal/internal/dataplane/config"
	"github.com/shoal-dev/shoal/internal/dataplane/netns"
	"github.com/shoal-dev/shoal/internal/dataplane/netnstest"
)

func ingressWith(peers ...string) *config.Ingress {
	in := &config.Ingress{}
	for _, p := range peers {
		in.Peers = append(in.Peers, config.IngressPeer{Addr: netip.MustParseAddr(p)})
	}
	return in
}

// The table of zones is as nft(8) shows it here; another daemon takes it over as it is, so that open connections keep their zones; and it goes with the mesh.
func TestZonesOfEntryNodes(t *testing.T) {
	ns := netnstest.New(t)
	var node *netns.Namespace
	if err := ns.Do(func() (err error) {
		node, err = netns.Current()
		return err
	}); err != nil {
		t.Fatal(err)
	}
	show := func() string {
		var out []byte
		_ = ns.Do(func() (err error) {
			out, err = exec.Command("nft", "-a", "list", "table", "inet", zonesTable).CombinedOutput()
			return err
		})
		return string(out)
	}
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}

	first := &zones{node: node}
	must(first.apply(ingressWith("10.0.0.2", "10.0.1.3")))
	const want = `table inet shoal_zones {
	map shoal_zones {
		type ether_addr : mark
		elements = { 02:42:0a:00:00:02 : 0x02000000,
			     02:42:0a:00:01:03 : 0x03010000 }
	}

	chain shoal_zones {
		type filter hook prerouting priority raw; policy accept;
		iifname "ing0" ct original zone set @ll,48,48 map @shoal_zones
	}
}
` // nft shows the values' bytes, which are in the machine's order, as they are
	got := show()
	if withoutHandles(got) != want {
		t.Fatalf("nft shows\n%s\nwant\n%s", got, want)
	}
	made := lineWith(got, "table inet") // with its number

	second := &zones{node: node}
	must(second.apply(ingressWith("10.0.1.3", "10.0.0.4")))
	got = show()
	if lineWith(got, "table inet") != made {
		t.Errorf("the table was replaced: %q was %q", lineWith(got, "table inet"), made)
	}
	if elements := got; strings.Contains(elements, "00:00:02") || !strings.Contains(elements, "00:00:04 : 0x04000000") {
		t.Errorf("after a change of nodes: %s", elements)
	}
	if !second.intact() {
		t.Error("the table is not as it was made")
	}
	must(ns.Do(func() error { return exec.Command("nft", "flush", "chain", "inet", zonesTable, zonesTable).Run() }))
	if second.intact() {
		t.Error("that the rule is gone was not seen")
	}
	second.applied = nil
	must(second.apply(ingressWith("10.0.1.3")))
	if !second.intact() || lineWith(show(), "iifname") == "" {
		t.Errorf("not mended:\n%s", show())
	}
	must(second.remove())
	must(second.remove())
	if got := show(); !strings.Contains(got, "No such file") {
		t.Errorf("left:\n%s", got)
	}
	must(first.close())
	must(second.close())
}

func lineWith(text, part string) string {
	for line := range strings.Lines(text) {
		if strings.Contains(line, part) {
			return strings.TrimSpace(line)
		}
	}
	return ""
}

func withoutHandles(text string) string {
	var out strings.Builder
	for line := range strings.Lines(text) {
		line, _, _ = strings.Cut(line, " # handle")
		out.WriteString(strings.TrimRight(line, "\n") + "\n")
	}
	return out.String()
}
