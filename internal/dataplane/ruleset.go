package dataplane

import (
	"bytes"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"sort"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
)

// tableName is the one nftables table that this room owns in every namespace it works in.
const tableName = "shoal"

// ruleset is the wanted content of the table. Names are unique among sets and among chains.
type ruleset struct {
	sets   map[string]*ruleSet
	chains map[string]*ruleChain
}

type ruleSet struct {
	key, data nftables.SetDatatype
	isMap     bool
	concat    bool
	dynamic   bool                           // packets add to it
	elements  map[string]nftables.SetElement // by string(Key)
}

type ruleChain struct {
	hook     *nftables.ChainHook
	kind     nftables.ChainType
	priority int32
	rules    [][]expr.Any
}

func newRuleset() *ruleset {
	return &ruleset{sets: map[string]*ruleSet{}, chains: map[string]*ruleChain{}}
}

func (rs *ruleset) base(name string, kind nftables.ChainType, hook *nftables.ChainHook, priority int32) *ruleChain {
	c := &ruleChain{hook: hook, kind: kind, priority: priority}
	rs.chains[name] = c
	return c
}

func (rs *ruleset) chain(name string) *ruleChain {
	c := &ruleChain{}
	rs.chains[name] = c
	return c
}

func (rs *ruleset) set(name string, key nftables.SetDatatype) *ruleSet {
	s := &ruleSet{key: key, elements: map[string]nftables.SetElement{}}
	rs.sets[name] = s
	return s
}

func (rs *ruleset) dict(name string, key, data nftables.SetDatatype) *ruleSet {
	s := rs.set(name, key)
	s.isMap, s.data = true, data
	return s
}

// include adds what other has. The elements of its sets are copied, so that more can be added to them here.
func (rs *ruleset) include(other *ruleset) {
	maps.Copy(rs.chains, other.chains)
	for name, s := range other.sets {
		own := *s
		own.elements = maps.Clone(s.elements)
		rs.sets[name] = &own
	}
}

// keep declares what sets other has and this one lacks, so that they stay.
func (rs *ruleset) keep(other *ruleset) {
	for name, s := range other.sets {
		if rs.sets[name] == nil {
			empty := *s
			empty.elements = map[string]nftables.SetElement{}
			rs.sets[name] = &empty
		}
	}
}

func (c *ruleChain) rule(parts ...[]expr.Any) { c.rules = append(c.rules, slices.Concat(parts...)) }

func (s *ruleSet) add(key []byte) { s.elements[string(key)] = nftables.SetElement{Key: key} }

func (s *ruleSet) put(key, val []byte) {
	s.elements[string(key)] = nftables.SetElement{Key: key, Val: val}
}

func (s *ruleSet) jump(key []byte, chain string) {
	s.elements[string(key)] = nftables.SetElement{Key: key, VerdictData: &expr.Verdict{Kind: expr.VerdictGoto, Chain: chain}}
}

// transaction is the difference between two rulesets, put in the order the kernel wants: chains that are referred to, sets and
// their elements, rules, and at last what nothing refers to any more.
type transaction struct {
	conn      *nftables.Conn
	table     *nftables.Table
	was, want *ruleset
	lastSet   uint32
	changes   bool // there is anything to commit
}

func (t *transaction) build() error {
	changed := map[string]bool{}
	for _, name := range keys(t.want.chains) {
		c, old := t.want.chains[name], t.was.chains[name]
		if old == nil {
			t.conn.AddChain(t.kernelChain(name, c))
		}
		changed[name] = old == nil || !reflect.DeepEqual(old.rules, c.rules)
		t.changes = t.changes || changed[name]
		if changed[name] && old != nil {
			t.conn.FlushChain(t.kernelChain(name, old))
		}
	}
	for _, name := range keys(t.was.chains) {
		if t.want.chains[name] == nil {
			t.conn.FlushChain(t.kernelChain(name, t.was.chains[name]))
		}
	}
	for _, name := range keys(t.want.sets) {
		if err := t.set(name); err != nil {
			return err
		}
	}
	for _, name := range keys(t.want.chains) {
		if !changed[name] {
			continue
		}
		c := t.want.chains[name]
		kc := t.kernelChain(name, c)
		for _, exprs := range c.rules {
			t.conn.AddRule(&nftables.Rule{Table: t.table, Chain: kc, Exprs: exprs})
		}
	}
	for _, name := range keys(t.was.sets) {
		if t.want.sets[name] == nil {
			t.changes = true
			t.conn.DelSet(t.kernelSet(name, t.was.sets[name]))
		}
	}
	for _, name := range keys(t.was.chains) {
		if t.want.chains[name] == nil {
			t.changes = true
			t.conn.DelChain(t.kernelChain(name, t.was.chains[name]))
		}
	}
	return nil
}

func (t *transaction) set(name string) error {
	s, old := t.want.sets[name], t.was.sets[name]
	ks := t.kernelSet(name, s)
	if old == nil {
		if err := t.conn.AddSet(ks, nil); err != nil {
			return fmt.Errorf("add set %s: %w", name, err)
		}
		old, t.changes = &ruleSet{}, true
	}
	var gone, added []nftables.SetElement
	for k, e := range old.elements {
		if now, ok := s.elements[k]; !ok || !sameElement(now, e) {
			gone = append(gone, e)
		}
	}
	for k, e := range s.elements {
		if before, ok := old.elements[k]; !ok || !sameElement(before, e) {
			added = append(added, e)
		}
	}
	t.changes = t.changes || len(gone)+len(added) > 0
	if len(gone) > 0 {
		if err := t.conn.SetDeleteElements(ks, gone); err != nil {
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

func (t *transaction) kernelSet(name string, s *ruleSet) *nftables.Set {
	t.lastSet++ // left to the library, IDs would come from a variable that parallel transactions share
	return &nftables.Set{ID: t.lastSet, Table: t.table, Name: name, IsMap: s.isMap, KeyType: s.key, DataType: s.data, Concatenation: s.concat, Dynamic: s.dynamic}
}

func (t *transaction) kernelChain(name string, c *ruleChain) *nftables.Chain {
	kc := &nftables.Chain{Table: t.table, Name: name}
	if c.hook != nil {
		kc.Hooknum, kc.Type = c.hook, c.kind
		kc.Priority = new(nftables.ChainPriority(c.priority))
	}
	return kc
}

func keys[V any](m map[string]V) []string {
	out := make([]string, 0, len(m))
	for k := range m {
		out = append(out, k)
	}
	sort.Strings(out)
	return out
}
