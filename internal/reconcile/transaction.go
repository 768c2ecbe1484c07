package reconcile

import (
	"slices"

	"github.com/shoal-dev/shoal/internal/store"
)

// transaction collects the changes of several controllers into one. Of several writes of the same object the last one counts.
//
// It takes changes by groups (store.GroupOf): of what a controller wants for a slot it takes all or nothing, so that it may be committed before the
// rest, or in parts.
type transaction struct {
	objects map[objectRef]object
	groups  map[store.Group]*group
	order   []*group
}

type objectRef struct {
	kind store.Kind
	id   string
}

type object struct {
	value   store.Object
	deleted bool
}

// group is the objects of a transaction that must be committed together.
type group struct {
	id      store.Group
	refs    []objectRef
	writers []item // whose changes they are
}

func newTransaction() *transaction {
	return &transaction{objects: map[objectRef]object{}, groups: map[store.Group]*group{}}
}

func (t *transaction) len() int { return len(t.objects) }

// take adds as many of an item's changes as there is room for, and returns these. If some are left out, all is false. Objects other than tasks are
// always taken: they are few, and tasks rely on them.
func (t *transaction) take(work item, c store.Changes, room int) (taken store.Changes, all bool) {
	added, all := t.groupsToAdd(c, room), true
	sift := func(objects []store.Object, deleted bool) (in []store.Object) {
		for _, o := range objects {
			if id := store.GroupOf(o); t.groups[id] == nil && !added[id] {
				all = false
			} else {
				t.set(work, id, object{o, deleted})
				in = append(in, o)
			}
		}
		return in
	}
	taken = store.Changes{Fence: c.Fence, RequeueAt: c.RequeueAt}
	taken.Puts, taken.Deletes = sift(c.Puts, false), sift(c.Deletes, true)
	return taken, all
}

// groupsToAdd is the groups of the changes that are new to the transaction and for which there is room, in the order in which the controller lists
// them. One is taken even if it is larger than all room.
func (t *transaction) groupsToAdd(c store.Changes, room int) map[store.Group]bool {
	sizes := map[store.Group]int{}
	var tasks []store.Group
	added := map[store.Group]bool{}
	for _, objects := range [][]store.Object{c.Puts, c.Deletes} {
		for _, o := range objects {
			id := store.GroupOf(o)
			if id.Kind != store.KindTask {
				added[id] = true
			} else if sizes[id]++; sizes[id] == 1 {
				tasks = append(tasks, id)
			}
		}
	}
	for i, id := range tasks {
		if room -= sizes[id]; room < 0 && (i > 0 || t.len() > 0) {
			break
		}
		added[id] = true
	}
	return added
}

func (t *transaction) set(work item, id store.Group, o object) {
	g := t.groups[id]
	if g == nil {
		g = &group{id: id}
		t.groups[id] = g
		t.order = append(t.order, g)
	}
	if !slices.Contains(g.writers, work) {
		g.writers = append(g.writers, work)
	}
	ref := objectRef{store.KindOf(o.value), o.value.ObjectID()}
	if _, ok := t.objects[ref]; !ok {
		g.refs = append(g.refs, ref)
	}
	t.objects[ref] = o
}

// ordered is the groups in the order in which parts of the transaction are committed: tasks after the services and networks that they rely on.
func (t *transaction) ordered() []*group {
	first := make([]*group, 0, len(t.order))
	var tasks []*group
	for _, g := range t.order {
		if g.id.Kind == store.KindTask {
			tasks = append(tasks, g)
		} else {
			first = append(first, g)
		}
	}
	return append(first, tasks...)
}

// changes is what to write for some of the groups.
func (t *transaction) changes(groups []*group, fence uint64) store.Changes {
	c := store.Changes{Fence: fence}
	for _, g := range groups {
		for _, ref := range g.refs {
			switch o := t.objects[ref]; {
			case !o.deleted:
				c.Put(o.value)
			case o.value.Head().Version != 0: // else it never was in the store
				c.Delete(o.value)
			}
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
