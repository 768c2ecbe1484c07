package reconcile

import (
	"github.com/shoal-dev/shoal/internal/store"
)

// transaction collects the changes of several controllers into one. Of several writes of the same object the last one counts.
type transaction struct {
	objects map[objectRef]object
	order   []objectRef
}

type objectRef struct {
	kind store.Kind
	id   string
}

type object struct {
	value   store.Object
	deleted bool
}

func (t *transaction) len() int { return len(t.objects) }

func (t *transaction) add(c store.Changes) {
	for _, o := range c.Puts {
		t.set(object{value: o})
	}
	for _, o := range c.Deletes {
		t.set(object{value: o, deleted: true})
	}
}

func (t *transaction) set(o object) {
	key := objectRef{store.KindOf(o.value), o.value.ObjectID()}
	if _, ok := t.objects[key]; !ok {
		t.order = append(t.order, key)
	}
	t.objects[key] = o
}

func (t *transaction) changes(fence uint64) store.Changes {
	c := store.Changes{Fence: fence}
	for _, key := range t.order {
		switch o := t.objects[key]; {
		case !o.deleted:
			c.Put(o.value)
		case o.value.Head().Version != 0: // else it never was in the store
			c.Delete(o.value)
		}
	}
	return c
}

// differences is the changes as a watch would tell of them.
func differences(before store.View, c store.Changes) []store.Change {
	all := make([]store.Change, 0, len(c.Puts)+len(c.Deletes))
	for _, o := range c.Puts {
		kind, id := store.KindOf(o), o.ObjectID()
		all = append(all, store.Change{Kind: kind, ID: id, Old: before.Get(kind, id), New: o})
	}
	for _, o := range c.Deletes {
		kind, id := store.KindOf(o), o.ObjectID()
		all = append(all, store.Change{Kind: kind, ID: id, Old: before.Get(kind, id)})
	}
	return all
}
