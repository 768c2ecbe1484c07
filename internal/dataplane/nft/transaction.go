package nft

import (
	"bytes"
	"fmt"
	"maps"
	"reflect"
	"slices"

	"github.com/google/nftables"
)

// transaction is the difference between two rulesets, in the order that the kernel demands: chains first, since rules and verdict maps refer to
// them; sets and their elements; rules; and last the removal of what nothing refers to any more.
type transaction struct {
	conn          *nftables.Conn
	table         *nftables.Table
	before, after *Ruleset
	lastSet       uint32
	changes       bool // there is anything to commit
}

func (t *transaction) build() error {
	changed := map[string]bool{}
	for _, name := range slices.Sorted(maps.Keys(t.after.Chains)) {
		c, old := t.after.Chains[name], t.before.Chains[name]
		if old == nil {
			t.conn.AddChain(t.kernelChain(name, c))
		}
		changed[name] = old == nil || !reflect.DeepEqual(old.rules, c.rules)
		t.changes = t.changes || changed[name]
		if changed[name] && old != nil {
			t.conn.FlushChain(t.kernelChain(name, old))
		}
	}
	for _, name := range slices.Sorted(maps.Keys(t.before.Chains)) {
		if t.after.Chains[name] == nil {
			t.conn.FlushChain(t.kernelChain(name, t.before.Chains[name]))
		}
	}
	for _, name := range slices.Sorted(maps.Keys(t.after.Sets)) {
		if err := t.set(name); err != nil {
			return err
		}
	}
	t.addRules(changed)
	t.removeUnused()
	return nil
}

// addRules writes the rules of the chains that are new or were flushed.
func (t *transaction) addRules(changed map[string]bool) {
	for _, name := range slices.Sorted(maps.Keys(t.after.Chains)) {
		if !changed[name] {
			continue
		}
		c := t.after.Chains[name]
		kc := t.kernelChain(name, c)
		for _, exprs := range c.rules {
			t.conn.AddRule(&nftables.Rule{Table: t.table, Chain: kc, Exprs: exprs})
		}
	}
}

// removeUnused removes sets and chains that are no longer wanted.
func (t *transaction) removeUnused() {
	for _, name := range slices.Sorted(maps.Keys(t.before.Sets)) {
		if t.after.Sets[name] == nil {
			t.changes = true
			t.conn.DelSet(t.kernelSet(name, t.before.Sets[name]))
		}
	}
	for _, name := range slices.Sorted(maps.Keys(t.before.Chains)) {
		if t.after.Chains[name] == nil {
			t.changes = true
			t.conn.DelChain(t.kernelChain(name, t.before.Chains[name]))
		}
	}
}

// set declares a set that is new, and writes the elements that differ.
func (t *transaction) set(name string) error {
	s, old := t.after.Sets[name], t.before.Sets[name]
	ks := t.kernelSet(name, s)
	if old == nil {
		if err := t.conn.AddSet(ks, nil); err != nil {
			return fmt.Errorf("add set %s: %w", name, err)
		}
		old, t.changes = &Set{}, true
	}
	var removed, added []nftables.SetElement
	for k, e := range old.elements {
		if now, ok := s.elements[k]; !ok || !sameElement(now, e) {
			removed = append(removed, e)
		}
	}
	for k, e := range s.elements {
		if had, ok := old.elements[k]; !ok || !sameElement(had, e) {
			added = append(added, e)
		}
	}
	t.changes = t.changes || len(removed)+len(added) > 0
	if len(removed) > 0 {
		if err := t.conn.SetDeleteElements(ks, removed); err != nil {
			return fmt.Errorf("delete elements of %s: %w", name, err)
		}
	}
	// A message holds at most 64 KiB of elements.
	for batch := range slices.Chunk(added, 200) {
		if err := t.conn.SetAddElements(ks, batch); err != nil {
			return fmt.Errorf("add elements to %s: %w", name, err)
		}
	}
	return nil
}

func sameElement(a, b nftables.SetElement) bool {
	return bytes.Equal(a.Val, b.Val) && reflect.DeepEqual(a.VerdictData, b.VerdictData)
}

func (t *transaction) kernelSet(name string, s *Set) *nftables.Set {
	t.lastSet++ // left to the library, IDs would come from a variable that parallel transactions share
	return &nftables.Set{ID: t.lastSet, Table: t.table, Name: name, IsMap: s.isMap, KeyType: s.key, DataType: s.data, Concatenation: s.Concat, Dynamic: s.Dynamic}
}

func (t *transaction) kernelChain(name string, c *Chain) *nftables.Chain {
	kc := &nftables.Chain{Table: t.table, Name: name}
	if c.hook != nil {
		kc.Hooknum, kc.Type = c.hook, c.kind
		kc.Priority = new(nftables.ChainPriority(c.priority))
	}
	return kc
}
