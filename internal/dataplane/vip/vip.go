// Package vip balances a container's connections to virtual addresses by rules in the container's own namespace: VIP → counter → slot → backend, as
// destination NAT in the output hook. It writes rulesets (package nft) and reads back which services were used. Only the container's own
// connections traverse these rules, and of those the first packet alone.
package vip

import (
	"net/netip"
	"slices"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"

	"github.com/shoal-dev/shoal/internal/dataplane/config"
	"github.com/shoal-dev/shoal/internal/dataplane/conntrack"
	"github.com/shoal-dev/shoal/internal/dataplane/nft"
	"github.com/shoal-dev/shoal/internal/dataplane/roundrobin"
)

// Declare adds the maps that services are written into: "services" names a virtual address's counter, and "used" notes the services that
// connections have gone to by these rules. Only those can have flows.
func Declare(rs *nft.Ruleset) {
	roundrobin.Declare(rs)
	for _, f := range nft.Families() {
		rs.Map(f.Named("services"), f.Type, nftables.TypeMark)
		rs.Set(f.Named("used"), f.Type).Dynamic = true
	}
}

// Enter adds the rules that take packets to a virtual address to its counter.
func Enter(out *nft.Chain) {
	for _, f := range nft.Families() {
		roundrobin.Enter(out, f.Match(), []expr.Any{f.LoadDAddr(1), nft.Map(f.Named("services"))})
	}
}

// NewChains is the counters and slots of a table that has none yet.
func NewChains() *roundrobin.Chains {
	return roundrobin.NewChains(roundrobin.Rules{
		Midstream: nft.Refuse(unix.IPPROTO_TCP),
		BeforeCount: func(f nft.Family) []expr.Any {
			return []expr.Any{f.LoadDAddr(1), &expr.Dynset{SrcRegKey: 1, SetName: f.Named("used"), Operation: unix.NFT_DYNSET_OP_ADD}}
		},
		Slot: func(s roundrobin.Slot) []expr.Any {
			return append([]expr.Any{s.LoadDAddr(1), nft.Map(s.BackendMap())}, nft.DNAT(s.Family, 0)...)
		},
	})
}

func counter(v *config.VIP) roundrobin.Counter {
	last := v.Addr.As16()[15]
	return roundrobin.CounterFor(nft.FamilyOf(v.Addr), len(v.Backends), int(last))
}

// Elements adds what a service has in the maps. seed rotates its backends.
func Elements(rs *nft.Ruleset, v *config.VIP, seed uint32) {
	f, key := nft.FamilyOf(v.Addr), v.Addr.AsSlice()
	rs.Sets[f.Named("services")].Put(key, counter(v).ID())
	for i, backend := range rotate(v.Backends, seed) {
		slot := roundrobin.Slot{Family: f, Number: i}
		backends := rs.Sets[slot.BackendMap()]
		if backends == nil {
			backends = rs.Map(slot.BackendMap(), f.Type, f.Type)
		}
		backends.Put(key, backend.AsSlice())
	}
}

// Add adds what a service has in the maps, and the chains that it needs and the table lacks.
func Add(rs *nft.Ruleset, chains *roundrobin.Chains, v *config.VIP, seed uint32) {
	Elements(rs, v, seed)
	chains.Require(rs, counter(v))
}

// Used is those of the changes whose services connections have gone to by the table's rules.
func Used(table *nft.Table, changes []config.ServiceChange) ([]config.ServiceChange, error) {
	declared, used := nft.NewRuleset(), map[string]bool{}
	Declare(declared)
	for _, f := range nft.Families() {
		elements, err := table.Elements(f.Named("used"), declared.Sets[f.Named("used")])
		if err != nil {
			return nil, err
		}
		for _, e := range elements {
			used[string(e.Key)] = true
		}
	}
	return slices.DeleteFunc(changes, func(c config.ServiceChange) bool { return !used[string(c.Key.AsSlice())] }), nil
}

// RemovedBackends is the backends that services lose by the changes.
func RemovedBackends(changes []config.ServiceChange) []netip.Addr {
	var removed []netip.Addr
	for _, c := range changes {
		switch {
		case c.Has && c.Had:
			removed = append(removed, conntrack.Removed(c.Old.Backends, c.New.Backends)...)
		case c.Had:
			removed = append(removed, c.Old.Backends...)
		}
	}
	return removed
}

// rotate is the list begun at the place that the seed chooses.
func rotate(list []netip.Addr, seed uint32) []netip.Addr {
	if len(list) == 0 {
		return nil
	}
	n := int(seed % uint32(len(list)))
	return slices.Concat(list[n:], list[:n])
}
