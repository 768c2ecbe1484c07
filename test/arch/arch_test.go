// Package arch holds the house to its plan: which room may import which, which library belongs to which room, that every package says
// what it is for, and what no struct may keep.
package arch

import (
	"encoding/json"
	"errors"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const module = "github.com/shoal-dev/shoal/"

// room is a row of the table in docs/architecture.md.
type room struct {
	name      string
	mayImport []string
}

// planned is the rooms of the table that are not built yet.
var planned = []string{"telemetry", "dashboard"}

// rooms reads the table.
func rooms(t *testing.T) map[string]room {
	t.Helper()
	text, err := os.ReadFile("../../docs/architecture.md")
	if err != nil {
		t.Fatal(err)
	}
	names, cells := map[int]string{}, map[int]string{}
	for _, m := range regexp.MustCompile("(?m)^\\| (\\d+) \\| `(\\w+)` \\|.*\\| ([^|]*) \\|$").FindAllStringSubmatch(string(text), -1) {
		n, _ := strconv.Atoi(m[1]) // digits
		names[n], cells[n] = m[2], m[3]
	}
	if len(names) < 20 {
		t.Fatalf("the table of rooms was not found: %v", names)
	}
	all := map[string]room{}
	for n, name := range names {
		r := room{name: name}
		for field := range strings.FieldsSeq(strings.ReplaceAll(cells[n], ",", " ")) {
			first, last, _ := strings.Cut(field, "–")
			from, err := strconv.Atoi(first)
			if err != nil {
				continue // words, or nothing
			}
			to := from
			if last != "" {
				if to, err = strconv.Atoi(last); err != nil {
					t.Fatalf("room %s may import %q", name, field)
				}
			}
			for i := from; i <= to; i++ {
				r.mayImport = append(r.mayImport, names[i])
			}
		}
		all[name] = r
	}
	return all
}

// libraries are tied to the rooms that hide them from the others. A path stands for everything below it.
var libraries = map[string][]string{
	"github.com/cilium/ebpf":                 {"dataplane"},
	"github.com/containerd/containerd/v2":    {"build", "container", "image", "registry", "runtime", "volume"},
	"github.com/docker/cli":                  {"cli"},
	"github.com/google/go-containerregistry": {"api", "image", "registry"},
	"github.com/google/nftables":             {"dataplane"},
	"github.com/hashicorp/go-memdb":          {"store"},
	"github.com/miekg/dns":                   {"dns"},
	"github.com/moby/buildkit":               {"build"},
	"github.com/moby/moby/api":               {"api", "cli"},
	"github.com/moby/moby/client":            {"api", "cli"},
	"github.com/vishvananda/netlink":         {"dataplane", "network"},
	"github.com/vishvananda/netns":           {"dataplane"},
	"go.etcd.io/etcd":                        {"store"},
	"golang.org/x/crypto":                    {"backup"},
	"golang.zx2c4.com/wireguard":             {"dataplane"},
	"google.golang.org/grpc":                 {"build", "rpc", "daemon"},
}

type pkg struct {
	ImportPath string
	Dir        string
	Doc        string
	Imports    []string
	GoFiles    []string
	Name       string
}

func packages(t *testing.T) []pkg {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "go", "list", "-json=ImportPath,Dir,Doc,Imports,GoFiles,Name", module+"...").Output()
	if err != nil {
		t.Fatal(err)
	}
	var all []pkg
	for dec := json.NewDecoder(strings.NewReader(string(out))); ; {
		var p pkg
		if err := dec.Decode(&p); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		all = append(all, p)
	}
	return all
}

// roomOf is the room that a package belongs to; empty outside of internal.
func roomOf(path string) string {
	rest, ok := strings.CutPrefix(path, module+"internal/")
	if !ok {
		return ""
	}
	name, _, _ := strings.Cut(rest, "/")
	return name
}

func TestImportsAreThoseOfTheTable(t *testing.T) {
	table := rooms(t)
	needed := map[string]map[string]bool{}
	for _, p := range packages(t) {
		from := roomOf(p.ImportPath)
		if from == "" {
			continue
		}
		r, ok := table[from]
		if !ok {
			t.Errorf("%s is in no room of docs/architecture.md", p.ImportPath)
			continue
		}
		if needed[from] == nil {
			needed[from] = map[string]bool{}
		}
		for _, path := range p.Imports {
			to := roomOf(path)
			if to == "" || to == from {
				continue
			}
			needed[from][to] = true
			if !slices.Contains(r.mayImport, to) {
				t.Errorf("%s imports %s: room %s may not import room %s", p.ImportPath, path, from, to)
			}
		}
	}
	for name, r := range table {
		if built := needed[name] != nil; built == slices.Contains(planned, name) {
			t.Errorf("room %s is built: %v", name, built)
		}
		for _, to := range r.mayImport {
			if !needed[name][to] && !slices.Contains(planned, name) && !slices.Contains(planned, to) {
				t.Errorf("docs/architecture.md lets room %s import room %s, which it does not", name, to)
			}
		}
	}
}

func TestLibrariesStayInTheirRooms(t *testing.T) {
	used := map[string]bool{}
	for _, p := range packages(t) {
		from := roomOf(p.ImportPath)
		if from == "" {
			continue
		}
		for _, path := range p.Imports {
			for library, owners := range libraries {
				if path != library && !strings.HasPrefix(path, library+"/") {
					continue
				}
				used[library] = true
				if !slices.Contains(owners, from) {
					t.Errorf("%s imports %s, which belongs to %v", p.ImportPath, path, owners)
				}
			}
		}
	}
	for library := range libraries {
		if !used[library] {
			t.Errorf("%s is tied to rooms, but none uses it", library)
		}
	}
}

func TestPackagesSayWhatTheyAreFor(t *testing.T) {
	for _, p := range packages(t) {
		if len(p.GoFiles) > 0 && p.Doc == "" {
			t.Errorf("%s has no package comment", p.ImportPath)
		}
	}
}

// A context in a struct outlives the call that it belongs to, and hides what a method can be cancelled by.
func TestNoStructKeepsAContext(t *testing.T) {
	for _, p := range packages(t) {
		if roomOf(p.ImportPath) == "" {
			continue
		}
		for _, name := range p.GoFiles {
			files := token.NewFileSet()
			file, err := parser.ParseFile(files, filepath.Join(p.Dir, name), nil, parser.SkipObjectResolution)
			if err != nil {
				t.Fatal(err)
			}
			ast.Inspect(file, func(n ast.Node) bool {
				s, ok := n.(*ast.StructType)
				if !ok {
					return true
				}
				for _, field := range s.Fields.List {
					if sel, ok := field.Type.(*ast.SelectorExpr); ok && sel.Sel.Name == "Context" {
						if x, ok := sel.X.(*ast.Ident); ok && x.Name == "context" {
							t.Errorf("%s: a struct keeps a context", files.Position(field.Pos()))
						}
					}
				}
				return true
			})
		}
	}
}
