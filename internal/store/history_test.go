package store_test

import (
	"fmt"
	"testing"

	"pgregory.net/rapid"

	"github.com/shoal-dev/shoal/internal/shoal"
	"github.com/shoal-dev/shoal/internal/store"
	"github.com/shoal-dev/shoal/internal/store/storetest"
)

// TestChangedSince compares what a view says it differs in from another with what it does differ in, over revisions and drafts.
func TestChangedSince(t *testing.T) {
	s := storetest.Open(t, store.NewMemory())
	serial := uint64(0)
	rapid.Check(t, func(rt *rapid.T) {
		edit := func(v store.View) store.Changes {
			var c store.Changes
			for range rapid.IntRange(1, 3).Draw(rt, "edits") {
				serial++
				task := &shoal.Task{ID: shoal.TaskID(fmt.Sprint("t", rapid.IntRange(1, 9).Draw(rt, "task"))), Slot: serial}
				old := v.Task(task.ID)
				if old != nil {
					task.Version = old.Version
				}
				if old != nil && rapid.Bool().Draw(rt, "delete") {
					c.Merge(store.Changes{Deletes: []store.Object{old}})
				} else {
					c.Merge(store.Changes{Puts: []store.Object{task}})
				}
			}
			return c
		}
		views := []store.View{s.View()}
		for range rapid.IntRange(1, 8).Draw(rt, "steps") {
			if rapid.Bool().Draw(rt, "commit") {
				c := edit(s.View())
				if _, err := s.Commit(t.Context(), c); err != nil && !store.IsConflict(err) {
					rt.Fatal(err)
				}
				views = append(views, s.View())
				continue
			}
			from := rapid.SampledFrom(views).Draw(rt, "from")
			views = append(views, from.With(edit(from)))
		}
		for _, a := range views {
			for _, b := range views {
				checkDifference(rt, a, b)
			}
		}
	})
}

func checkDifference(t *rapid.T, a, b store.View) {
	refs, known := a.ChangedSince(b.Mark())
	if !known {
		t.Fatal("so short a history is not known")
	}
	told := map[string]bool{}
	for _, r := range refs {
		told[r.ID] = true
	}
	for i := 1; i <= 9; i++ {
		id := fmt.Sprint("t", i)
		if a.Task(shoal.TaskID(id)) != b.Task(shoal.TaskID(id)) && !told[id] {
			t.Fatalf("%s differs and is not told of", id)
		}
	}
	if a.Mark() == b.Mark() && len(refs) > 0 {
		t.Fatalf("one state differs from itself in %d objects", len(refs))
	}
}

func TestHistoryForgets(t *testing.T) {
	s := storetest.Open(t, store.NewMemory())
	start := s.View()
	var last store.View
	for range 20 {
		last = s.View()
		var c store.Changes
		for i := range 2000 {
			id := fmt.Sprint("t", i)
			task := &shoal.Task{ID: shoal.TaskID(id)}
			if old := last.Task(shoal.TaskID(id)); old != nil {
				task.Version = old.Version
			}
			c.Put(task)
		}
		if _, err := s.Commit(t.Context(), c); err != nil {
			t.Fatal(err)
		}
	}
	if _, known := s.View().ChangedSince(start.Mark()); known {
		t.Error("40000 changes are remembered")
	}
	if refs, known := s.View().ChangedSince(last.Mark()); !known || len(refs) != 2000 {
		t.Errorf("%d changes since the last revision, known: %v", len(refs), known)
	}
	if _, known := s.View().ChangedSince(store.Mark{}); known {
		t.Error("the difference from nothing is known")
	}
}
