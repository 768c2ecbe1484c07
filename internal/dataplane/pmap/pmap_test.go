package pmap

import (
	"cmp"
	"maps"
	"testing"

	"pgregory.net/rapid"
)

type number int

func (n number) Compare(other number) int { return cmp.Compare(n, other) }

// TestMapBehavesLikeAGoMap holds a map against Go's own through random changes, and what Changes finds between any two versions.
func TestMapBehavesLikeAGoMap(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		versions, models := []Map[number, int]{{}}, []map[number]int{{}}
		for range rapid.IntRange(1, 40).Draw(t, "steps") {
			from := rapid.IntRange(0, len(versions)-1).Draw(t, "from")
			key := number(rapid.IntRange(0, 15).Draw(t, "key"))
			next, model := versions[from], maps.Clone(models[from])
			if rapid.Bool().Draw(t, "set") {
				val := rapid.IntRange(0, 3).Draw(t, "val")
				next = next.Set(key, val)
				model[key] = val
			} else {
				next = next.Delete(key)
				delete(model, key)
			}
			versions, models = append(versions, next), append(models, model)
		}
		for i, v := range versions {
			if got := maps.Collect(v.All()); !maps.Equal(got, models[i]) || v.Len() != len(models[i]) {
				t.Fatalf("version %d holds %v (%d), want %v", i, got, v.Len(), models[i])
			}
		}
		a, b := rapid.IntRange(0, len(versions)-1).Draw(t, "a"), rapid.IntRange(0, len(versions)-1).Draw(t, "b")
		patched := maps.Clone(models[a])
		last := number(-1)
		for _, c := range Changes(versions[a], versions[b]) {
			old, had := models[a][c.Key]
			now, has := models[b][c.Key]
			if old != c.Old || had != c.Had || now != c.New || has != c.Has || had && has && old == now || c.Key <= last {
				t.Fatalf("change %+v between %v and %v", c, models[a], models[b])
			}
			last = c.Key
			if c.Has {
				patched[c.Key] = c.New
			} else {
				delete(patched, c.Key)
			}
		}
		if !maps.Equal(patched, models[b]) {
			t.Fatalf("%v with the changes is %v, want %v", models[a], patched, models[b])
		}
	})
}

// TestFindingAChangeCostsByItsSize counts what finding a change allocates: by the depth of the tree, not by its size.
func TestFindingAChangeCostsByItsSize(t *testing.T) {
	var m Map[number, int]
	for i := range number(100_000) {
		m = m.Set(i, 0)
	}
	next := m.Set(4711, 1).Delete(77_777).Set(100_001, 0)
	allocated := testing.AllocsPerRun(100, func() {
		if n := len(Changes(m, next)); n != 3 {
			t.Fatalf("%d changes, want 3", n)
		}
	})
	if allocated > 300 {
		t.Errorf("%.0f allocations for three changes", allocated)
	}
}
