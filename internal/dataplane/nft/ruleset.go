// Package nft writes the one nftables table that the data plane owns in every namespace it works in. A Ruleset is what the table shall hold, as a
// value; a Table commits the difference between two of them in one transaction, and reads back what the kernel has. The functions that build
// expressions are named after nft(8).
package nft

import (
	"maps"
	"slices"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
)

// tableName is the table's name.
const tableName = "shoal"

// Ruleset is the content of a table, or a part of it. Names are unique among sets (which maps are too) and among chains.
type Ruleset struct {
	Sets   map[string]*Set
	Chains map[string]*Chain
}

// Set is a set, a map or a verdict map.
type Set struct {
	key, data nftables.SetDatatype
	isMap     bool
	// Concat must be set if the key is a ConcatType.
	Concat bool
	// Dynamic sets are added to by packets.
	Dynamic  bool
	elements map[string]nftables.SetElement // by string(Key)
}

// Chain is a list of rules. Base chains hang on a netfilter hook, others are gone to by rules.
type Chain struct {
	hook     *nftables.ChainHook
	kind     nftables.ChainType
	priority int32
	rules    [][]expr.Any
}

// NewRuleset is a ruleset with nothing in it.
func NewRuleset() *Ruleset {
	return &Ruleset{Sets: map[string]*Set{}, Chains: map[string]*Chain{}}
}

// BaseChain adds a chain that hangs on the hook.
func (rs *Ruleset) BaseChain(name string, kind nftables.ChainType, hook *nftables.ChainHook, priority int32) *Chain {
	c := &Chain{hook: hook, kind: kind, priority: priority}
	rs.Chains[name] = c
	return c
}

// Chain adds a chain that other rules go to.
func (rs *Ruleset) Chain(name string) *Chain {
	c := &Chain{}
	rs.Chains[name] = c
	return c
}

// Set adds a set.
func (rs *Ruleset) Set(name string, key nftables.SetDatatype) *Set {
	s := &Set{key: key, elements: map[string]nftables.SetElement{}}
	rs.Sets[name] = s
	return s
}

// Map adds a map.
func (rs *Ruleset) Map(name string, key, data nftables.SetDatatype) *Set {
	s := rs.Set(name, key)
	s.isMap, s.data = true, data
	return s
}

// PortMap adds a map by transport protocol and port: see PortKey.
func (rs *Ruleset) PortMap(name string, data nftables.SetDatatype) *Set {
	s := rs.Map(name, PortKeyType(), data)
	s.Concat = true
	return s
}

// Include adds what other has. The elements of its sets are copied, so that more can be added to them here.
func (rs *Ruleset) Include(other *Ruleset) {
	maps.Copy(rs.Chains, other.Chains)
	for name, s := range other.Sets {
		own := *s
		own.elements = maps.Clone(s.elements)
		rs.Sets[name] = &own
	}
}

// DeclareSets adds, without elements, the sets that other has and rs lacks: a change from other to rs then empties them but keeps them.
func (rs *Ruleset) DeclareSets(other *Ruleset) {
	for name, s := range other.Sets {
		if rs.Sets[name] == nil {
			empty := *s
			empty.elements = map[string]nftables.SetElement{}
			rs.Sets[name] = &empty
		}
	}
}

// Rule appends a rule of these expressions.
func (c *Chain) Rule(parts ...[]expr.Any) { c.rules = append(c.rules, slices.Concat(parts...)) }

// Add puts a key into a set.
func (s *Set) Add(key []byte) { s.elements[string(key)] = nftables.SetElement{Key: key} }

// Put puts a value into a map.
func (s *Set) Put(key, val []byte) {
	s.elements[string(key)] = nftables.SetElement{Key: key, Val: val}
}

// PutGoto makes a verdict map go to the chain.
func (s *Set) PutGoto(key []byte, chain string) {
	s.elements[string(key)] = nftables.SetElement{Key: key, VerdictData: &expr.Verdict{Kind: expr.VerdictGoto, Chain: chain}}
}
