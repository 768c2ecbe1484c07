package shoal

import "testing"

func TestInventedNamesAreFree(t *testing.T) {
	taken := map[string]bool{}
	for range 2000 { // more than there are names without a number
		name := InventName(func(name string) bool { return taken[name] })
		if taken[name] {
			t.Fatalf("%s is taken", name)
		}
		taken[name] = true
	}
}
