package scheduler

import "math"

// absent is the key of what is not to be picked.
const absent = math.MaxUint64

// ranking finds the first of the smallest among a fixed number of keys. It is a binary tree in an array: the children of i are
// 2i and 2i+1, each node holds the smaller of its children, the last half are the keys. A change costs log n.
type ranking struct {
	leaves int // a power of two
	keys   []uint64
}

func newRanking(n int) ranking {
	leaves := 1
	for leaves < n {
		leaves *= 2
	}
	r := ranking{leaves, make([]uint64, 2*leaves)}
	for i := range r.keys {
		r.keys[i] = absent
	}
	return r
}

func (r *ranking) set(i int, key uint64) {
	at := r.leaves + i
	r.keys[at] = key
	for at > 1 {
		at /= 2
		smaller := min(r.keys[2*at], r.keys[2*at+1])
		if r.keys[at] == smaller {
			return
		}
		r.keys[at] = smaller
	}
}

func (r *ranking) empty() bool { return r.keys[1] == absent }

// first is the lowest index of the smallest key; there must be one.
func (r *ranking) first() int {
	at := 1
	for at < r.leaves {
		at *= 2
		if r.keys[at] != r.keys[at/2] {
			at++
		}
	}
	return at - r.leaves
}
