// Package pmap keeps persistent maps: maps that are values, of which a change makes a new one and leaves the old one as it was. The two share all
// but what changed, so that the cost of a change, and of finding what differs between two maps, goes by the size of the change and not of the map.
// It reads and writes nothing else.
//
// A map is a treap (Seidel and Aragon, "Randomized Search Trees"): ordered by key, heaped by random priority.
package pmap

import (
	"cmp"
	"iter"
	"math/rand/v2"
)

// Key is what the type of keys must have.
type Key[K any] interface {
	comparable
	// Compare is negative, zero or positive as the receiver is less than, equal to or greater than other.
	Compare(other K) int
}

// Map is a persistent map. The zero value is empty. It is safe for concurrent use. Two maps that are equal by == have the same content; two that are not
// may still have.
type Map[K Key[K], V comparable] struct{ root *node[K, V] }

type node[K Key[K], V comparable] struct {
	key         K
	val         V
	prio        uint64
	size        int
	left, right *node[K, V]
}

// Of is a map with the content of m, which may be nil.
func Of[K Key[K], V comparable](m map[K]V) Map[K, V] {
	var out Map[K, V]
	for k, v := range m {
		out = out.Set(k, v)
	}
	return out
}

// Len is the number of entries.
func (m Map[K, V]) Len() int { return m.root.len() }

func (n *node[K, V]) len() int {
	if n == nil {
		return 0
	}
	return n.size
}

// Get is the entry's value; the zero value and false if there is none.
func (m Map[K, V]) Get(key K) (v V, ok bool) {
	for n := m.root; n != nil; {
		switch c := key.Compare(n.key); {
		case c == 0:
			return n.val, true
		case c < 0:
			n = n.left
		default:
			n = n.right
		}
	}
	return v, false
}

// Set is m with the entry, in place of one with the same key. It is m itself if m has the entry already.
func (m Map[K, V]) Set(key K, val V) Map[K, V] {
	if have, ok := m.Get(key); ok && have == val {
		return m
	}
	left, was, right := split(m.root, key)
	prio := rand.Uint64()
	if was != nil {
		prio = was.prio
	}
	return Map[K, V]{join(join(left, leaf(key, val, prio)), right)}
}

// Delete is m without the entry. It is m itself if m has none with that key.
func (m Map[K, V]) Delete(key K) Map[K, V] {
	if _, ok := m.Get(key); !ok {
		return m
	}
	left, _, right := split(m.root, key)
	return Map[K, V]{join(left, right)}
}

// All iterates over the entries in the order of their keys.
func (m Map[K, V]) All() iter.Seq2[K, V] {
	return func(yield func(K, V) bool) { m.root.each(yield) }
}

func (n *node[K, V]) each(yield func(K, V) bool) bool {
	return n == nil || n.left.each(yield) && yield(n.key, n.val) && n.right.each(yield)
}

func leaf[K Key[K], V comparable](key K, val V, prio uint64) *node[K, V] {
	return &node[K, V]{key: key, val: val, prio: prio, size: 1}
}

// with is the node with other children.
func (n *node[K, V]) with(left, right *node[K, V]) *node[K, V] {
	return &node[K, V]{key: n.key, val: n.val, prio: n.prio, size: 1 + left.len() + right.len(), left: left, right: right}
}

// split parts what is below a key, at it and above it.
func split[K Key[K], V comparable](n *node[K, V], key K) (below, at, above *node[K, V]) {
	if n == nil {
		return nil, nil, nil
	}
	switch c := key.Compare(n.key); {
	case c == 0:
		return n.left, n, n.right
	case c < 0:
		below, at, above = split(n.left, key)
		return below, at, n.with(above, n.right)
	default:
		below, at, above = split(n.right, key)
		return n.with(n.left, below), at, above
	}
}

// join puts together two trees, all keys of the one being below all of the other.
func join[K Key[K], V comparable](low, high *node[K, V]) *node[K, V] {
	switch {
	case low == nil:
		return high
	case high == nil:
		return low
	case low.prio > high.prio:
		return low.with(low.left, join(low.right, high))
	default:
		return high.with(join(low, high.left), high.right)
	}
}

// Change is an entry in two maps; it is absent where Had or Has is false.
type Change[K Key[K], V comparable] struct {
	Key      K
	Old, New V
	Had, Has bool
}

// Changes is what differs between two maps, in the order of keys. If one was made from the other, or both from a third, it takes time by
// the number of the changes in between.
func Changes[K Key[K], V comparable](old, now Map[K, V]) []Change[K, V] {
	var out []Change[K, V]
	collect(old.root, now.root, &out)
	return out
}

func collect[K Key[K], V comparable](old, now *node[K, V], out *[]Change[K, V]) {
	switch {
	case old == now:
	case now == nil || old != nil && cmp.Compare(old.prio, now.prio) >= 0:
		below, at, above := split(now, old.key)
		collect(old.left, below, out)
		appendChange(old, at, out)
		collect(old.right, above, out)
	default:
		below, at, above := split(old, now.key)
		collect(below, now.left, out)
		appendChange(at, now, out)
		collect(above, now.right, out)
	}
}

// appendChange records an entry that differs; one of the nodes may be nil.
func appendChange[K Key[K], V comparable](old, now *node[K, V], out *[]Change[K, V]) {
	switch {
	case old == nil:
		*out = append(*out, Change[K, V]{Key: now.key, New: now.val, Has: true})
	case now == nil:
		*out = append(*out, Change[K, V]{Key: old.key, Old: old.val, Had: true})
	case old.val != now.val:
		*out = append(*out, Change[K, V]{Key: old.key, Old: old.val, New: now.val, Had: true, Has: true})
	}
}
