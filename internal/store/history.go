package store

import (
	"slices"
	"sync"
)

// Ref names a stored object.
type Ref struct {
	Kind Kind
	ID   string
}

// maxHistory is about how many changed objects a store remembers.
const maxHistory = 1 << 14

// history records which objects the latest revisions changed, so that View.ChangedSince need not compare everything.
type history struct {
	mu      sync.Mutex     // guards the rest
	after   uint64         // the revision before the first in entries
	entries []historyEntry // by revision
}

type historyEntry struct {
	rev uint64
	ref Ref
}

func (h *history) add(rev uint64, changes []Change) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, c := range changes {
		h.entries = append(h.entries, historyEntry{rev, Ref{c.Kind, c.ID}})
	}
	if excess := len(h.entries) - maxHistory; excess > maxHistory {
		h.after = h.entries[excess-1].rev
		h.entries = slices.Clone(h.entries[h.indexLocked(h.after):])
	}
}

// indexLocked is the index of the first entry after a revision.
func (h *history) indexLocked(rev uint64) int {
	at, _ := slices.BinarySearchFunc(h.entries, rev+1, func(t historyEntry, rev uint64) int {
		if t.rev < rev {
			return -1
		}
		return 1
	})
	return at
}

// between is the objects that the revisions above after, up to upTo, have changed; false if they are no longer remembered.
func (h *history) between(after, upTo uint64) ([]Ref, bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if after < h.after {
		return nil, false
	}
	entries := h.entries[h.indexLocked(after):h.indexLocked(upTo)]
	refs := make([]Ref, len(entries))
	for i, t := range entries {
		refs[i] = t.ref
	}
	return refs, true
}

// uncommitted is the objects that a call of View.With has changed, chained to those of the view that it was called on.
type uncommitted struct {
	parent *uncommitted
	refs   []Ref
}

func (d *uncommitted) with(c Changes) *uncommitted {
	next := &uncommitted{parent: d, refs: make([]Ref, 0, len(c.Puts)+len(c.Deletes))}
	for _, list := range [][]Object{c.Puts, c.Deletes} {
		for _, o := range list {
			next.refs = append(next.refs, Ref{KindOf(o), o.ObjectID()})
		}
	}
	return next
}

// since is the objects changed after an earlier link of the chain. If that is not in the chain, it is all objects and false; nil is
// in every chain.
func (d *uncommitted) since(earlier *uncommitted) (refs []Ref, descends bool) {
	for ; d != nil; d = d.parent {
		if d == earlier {
			return refs, true
		}
		refs = append(refs, d.refs...)
	}
	return refs, earlier == nil
}

// Mark names the state that a view shows, without keeping the state in memory.
type Mark struct {
	history     *history
	rev         uint64
	uncommitted *uncommitted
}

// Mark is the mark of the view's state.
func (v View) Mark() Mark { return Mark{v.history, v.rev, v.uncommitted} }

// ChangedSince is the objects in which the view may differ from a marked view of the same store, which may be older or newer, and
// changed by With. An object may be listed twice. It is false when the difference is not known: compare everything then.
func (v View) ChangedSince(m Mark) ([]Ref, bool) {
	if m.history == nil || m.history != v.history {
		return nil, false
	}
	if m.rev == v.rev {
		if refs, descends := v.uncommitted.since(m.uncommitted); descends {
			return refs, true
		}
	}
	refs, ok := v.history.between(min(m.rev, v.rev), max(m.rev, v.rev))
	for _, d := range []*uncommitted{v.uncommitted, m.uncommitted} {
		changed, _ := d.since(nil)
		refs = append(refs, changed...)
	}
	return refs, ok
}
