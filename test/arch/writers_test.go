package arch

import (
	"go/ast"
	"go/types"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	gopackages "golang.org/x/tools/go/packages"
)

// storedObjects is the types whose fields have declared writers.
var storedObjects = []string{"Cluster", "FileObject", "Network", "Node", "Service", "Task"}

// writesCopies is the rooms that set fields of objects that they do not store.
var writesCopies = map[string]string{
	"network":     "networks of the node alone, which are no part of the cluster's state",
	"shoal":       "methods of the objects, called by the writers",
	"store":       "encoding and decoding, and test objects of its conformance suite",
	"testcluster": "stands for the API's clients",
}

// declaredWriters reads the table of writers in docs/architecture.md: field → rooms.
func declaredWriters(t *testing.T) map[string][]string {
	t.Helper()
	text, err := os.ReadFile("../../docs/architecture.md")
	if err != nil {
		t.Fatal(err)
	}
	_, table, _ := strings.Cut(string(text), "**Who writes which field**")
	table, _, _ = strings.Cut(table, "\n**")
	quoted, writers := regexp.MustCompile("`([^`]+)`"), map[string][]string{}
	for _, row := range regexp.MustCompile(`(?m)^\| ([^|]+) \| ([^|]+) \|$`).FindAllStringSubmatch(table, -1) {
		for _, field := range quoted.FindAllStringSubmatch(row[1], -1) {
			for _, room := range quoted.FindAllStringSubmatch(row[2], -1) {
				writers[field[1]] = append(writers[field[1]], room[1])
			}
		}
	}
	if len(writers) < 20 {
		t.Fatalf("the table of writers was not found: %v", writers)
	}
	return writers
}

// Each field of what the cluster stores is written by the rooms that docs/architecture.md declares, and by no others: two controllers that write one
// field undo each other's work for ever.
func TestFieldsAreWrittenByTheirDeclaredWriters(t *testing.T) {
	loaded, err := gopackages.Load(&gopackages.Config{Mode: gopackages.NeedName | gopackages.NeedFiles | gopackages.NeedSyntax | gopackages.NeedTypes | gopackages.NeedTypesInfo | gopackages.NeedImports | gopackages.NeedExportFile,
		Dir: "../.."}, "./internal/...")
	if err != nil {
		t.Fatal(err)
	}
	if gopackages.PrintErrors(loaded) > 0 {
		t.Fatal("packages cannot be loaded")
	}
	declared, written := declaredWriters(t), map[string][]string{}
	for _, p := range loaded {
		room := roomOf(p.PkgPath)
		if writesCopies[room] != "" {
			continue
		}
		for _, file := range p.Syntax {
			ast.Inspect(file, func(n ast.Node) bool {
				for _, field := range writtenFields(p.TypesInfo, n) {
					if !slices.Contains(declared[field], room) {
						t.Errorf("%s: %s writes %s, whose writers are %v", p.Fset.Position(n.Pos()), room, field, declared[field])
					}
					written[field] = append(written[field], room)
				}
				return true
			})
		}
	}
	for field, rooms := range declared {
		for _, room := range rooms {
			if !slices.Contains(written[field], room) {
				t.Errorf("docs/architecture.md lets %s write %s, which it does not", room, field)
			}
		}
	}
}

// writtenFields is the fields of stored objects that a statement or a literal sets, as Type.Field.
func writtenFields(info *types.Info, n ast.Node) []string {
	var out []string
	switch n := n.(type) {
	case *ast.AssignStmt:
		for _, to := range n.Lhs {
			out = append(out, fieldOf(info, to)...)
		}
	case *ast.IncDecStmt:
		out = fieldOf(info, n.X)
	case *ast.CompositeLit:
		object := storedObject(info.TypeOf(n))
		for _, e := range n.Elts {
			if kv, ok := e.(*ast.KeyValueExpr); ok && object != "" {
				if key, ok := kv.Key.(*ast.Ident); ok {
					out = append(out, object+"."+key.Name)
				}
			}
		}
	}
	return out
}

// fieldOf is the field of a stored object that an assignment to the expression changes, whole or in part.
func fieldOf(info *types.Info, e ast.Expr) []string {
	for {
		switch x := e.(type) {
		case *ast.SelectorExpr:
			if object := storedObject(info.TypeOf(x.X)); object != "" {
				return []string{object + "." + x.Sel.Name}
			}
			e = x.X
		case *ast.IndexExpr:
			e = x.X
		case *ast.StarExpr:
			e = x.X
		case *ast.ParenExpr:
			e = x.X
		default:
			return nil
		}
	}
}

// storedObject is the name of the stored type that t is or points to; empty if it is none.
func storedObject(t types.Type) string {
	if p, ok := types.Unalias(t).(*types.Pointer); ok {
		t = p.Elem()
	}
	named, ok := types.Unalias(t).(*types.Named)
	if !ok || named.Obj().Pkg() == nil || named.Obj().Pkg().Path() != module+"internal/shoal" || !slices.Contains(storedObjects, named.Obj().Name()) {
		return ""
	}
	return named.Obj().Name()
}
