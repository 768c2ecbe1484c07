package mesh

import (
	"errors"
	"fmt"
	"maps"

	"github.com/google/nftables"
	"golang.org/x/sys/unix"

	"github.com/shoal-dev/shoal/internal/dataplane/config"
	"github.com/shoal-dev/shoal/internal/dataplane/netns"
	"github.com/shoal-dev/shoal/internal/dataplane/nft"
	"github.com/shoal-dev/shoal/internal/shoal"
)

// zonesTable is the name of a table of its own, and of the chain and the map in it, since its rule must not be away for a moment while the node's table is replaced.
const zonesTable = "shoal_zones"

// zones tells connections apart that have the same addresses and ports but came by different entry nodes: the client may use a source port once for each node that it
// connects to. In the original direction each entry node has a zone of connection tracking; in the other there is but one, in which the kernel gives
// the second of two connections another source port.
type zones struct {
	node    *netns.Namespace
	table   *nft.Table           // nil until it is needed, and after an error
	applied map[shoal.MAC]uint16 // nil if it is not known
	// unsupported says that the kernel cannot tell them apart (CONFIG_NF_CONNTRACK_ZONES).
	unsupported bool
}

func wantedZones(in *config.Ingress) map[shoal.MAC]uint16 {
	want := map[shoal.MAC]uint16{}
	for _, p := range in.Peers {
		want[shoal.MACFor(p.Addr)] = uint16(entryMark(p.Addr))
	}
	return want
}

// zonesRuleset is the table but for its one rule.
func zonesRuleset(of map[shoal.MAC]uint16) *nft.Ruleset {
	rs := nft.NewRuleset()
	rs.BaseChain(zonesTable, nftables.ChainTypeFilter, nftables.ChainHookPrerouting, -300) // before connection tracking looks for the packet's connection
	m := rs.Map(zonesTable, nftables.TypeEtherAddr, nftables.TypeMark)
	for mac, zone := range of {
		m.Put(mac.HardwareAddr(), nft.ZoneValue(zone))
	}
	return rs
}

// apply makes the zones those of the mesh.
func (z *zones) apply(in *config.Ingress) error {
	want := wantedZones(in)
	if z.unsupported || z.applied != nil && maps.Equal(z.applied, want) {
		return nil
	}
	err := z.change(want)
	if errors.Is(err, unix.EOPNOTSUPP) {
		z.unsupported = true
		return z.remove()
	}
	if err != nil {
		return errors.Join(fmt.Errorf("zones of connection tracking: %w", err), z.close())
	}
	z.applied = want
	return nil
}

func (z *zones) change(want map[shoal.MAC]uint16) error {
	was := z.applied
	z.applied = nil
	if err := z.open(); err != nil {
		return err
	}
	if was == nil {
		var err error
		if was, err = z.found(); err != nil {
			return err
		}
	}
	if was != nil {
		return z.table.Change(zonesRuleset(was), zonesRuleset(want))
	}
	if err := z.table.Replace(z.node, zonesRuleset(want)); err != nil {
		return err
	}
	return nft.AppendOriginalZone(z.node, zonesTable, zonesTable, append(nft.IIFName(DeviceName), nft.EtherSAddr(), nft.Map(zonesTable))...)
}

// found is what the kernel has, such as from a former daemon; nil if that is not a whole table.
func (z *zones) found() (map[shoal.MAC]uint16, error) {
	rules, err := nft.CountRules(z.node, zonesTable, zonesTable)
	if errors.Is(err, unix.ENOENT) || err == nil && rules != 1 {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	elements, err := z.table.Elements(zonesTable, zonesRuleset(nil).Sets[zonesTable])
	if err != nil {
		return nil, err
	}
	have := map[shoal.MAC]uint16{}
	for _, e := range elements {
		have[shoal.MACFrom(e.Key)] = nft.ZoneOf(e.Val)
	}
	return have, nil
}

// intact compares the kernel with what was applied.
func (z *zones) intact() bool {
	if z.unsupported {
		return true
	}
	have, err := z.found()
	return err == nil && z.applied != nil && maps.Equal(z.applied, have)
}

// remove removes the table, if there is one.
func (z *zones) remove() error {
	z.applied = nil
	if err := z.open(); err != nil {
		return err
	}
	if err := z.table.Delete(); err != nil && !errors.Is(err, unix.ENOENT) {
		return fmt.Errorf("remove zones of connection tracking: %w", errors.Join(err, z.close()))
	}
	return nil
}

func (z *zones) open() error {
	if z.table != nil {
		return nil
	}
	t, err := nft.OpenNamed(z.node, zonesTable)
	z.table = t
	return err
}

func (z *zones) close() error {
	if z.table == nil {
		return nil
	}
	err := z.table.Close()
	z.table = nil
	return err
}
