package arch

import (
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// ordered is the rooms whose packages have an order, and the pages with the tables of it: package, one line, what it may import of the room.
var ordered = map[string]string{
	"dataplane": "../../docs/dataplane.md",
	"network":   "../../docs/network.md",
}

// rootPackage is what the tables call a room's own package.
const rootPackage = "root"

// part is a row of such a table.
type part struct {
	name      string
	mayImport []string // "all" for all packages before it
}

// parts reads a table, in its order.
func parts(t *testing.T, page string) []part {
	t.Helper()
	text, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	var all []part
	for _, m := range regexp.MustCompile("(?m)^\\| `?([\\w/]+)`? \\|[^|\n]*\\| ([^|\n]*) \\|$").FindAllStringSubmatch(string(text), -1) {
		if m[1] == "package" {
			continue
		}
		imports := strings.Fields(m[2])
		if m[2] == "–" {
			imports = nil
		}
		all = append(all, part{m[1], imports})
	}
	if len(all) < 2 {
		t.Fatalf("%s has no table of packages", page)
	}
	return all
}

// TestPackagesOfARoomHaveAnOrder holds the packages of a room to its table: each imports only packages before it, and those that the table says.
func TestPackagesOfARoomHaveAnOrder(t *testing.T) {
	all := packages(t)
	for room, page := range ordered {
		imports := map[string][]string{} // of the room's packages, by name
		nameOf := func(path string) string {
			if rest := strings.TrimPrefix(path, module+"internal/"+room); rest != "" {
				return strings.TrimPrefix(rest, "/")
			}
			return rootPackage
		}
		for _, p := range all {
			if roomOf(p.ImportPath) != room || len(p.GoFiles) == 0 {
				continue
			}
			imports[nameOf(p.ImportPath)] = nil
			for _, path := range p.Imports {
				if roomOf(path) == room {
					imports[nameOf(p.ImportPath)] = append(imports[nameOf(p.ImportPath)], nameOf(path))
				}
			}
		}
		var before []string
		for _, row := range parts(t, page) {
			needed, built := imports[row.name]
			if !built {
				t.Errorf("%s has a row for %s/%s, which is not built", page, room, row.name)
			}
			delete(imports, row.name)
			may := row.mayImport
			if slices.Equal(may, []string{"all"}) {
				may = slices.DeleteFunc(slices.Clone(before), func(name string) bool { return !slices.Contains(needed, name) })
			}
			for _, name := range needed {
				if !slices.Contains(may, name) {
					t.Errorf("%s/%s imports %s, which %s does not let it", room, row.name, name, page)
				}
			}
			for _, name := range may {
				if !slices.Contains(before, name) {
					t.Errorf("%s lets %s/%s import %s, which does not stand before it", page, room, row.name, name)
				}
				if !slices.Contains(needed, name) {
					t.Errorf("%s lets %s/%s import %s, which it does not", page, room, row.name, name)
				}
			}
			before = append(before, row.name)
		}
		for name := range imports {
			t.Errorf("%s/%s is not in the table of %s", room, name, page)
		}
	}
}
