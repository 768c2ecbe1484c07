package arch

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// TestExportedIdentifiersAreDocumented demands a doc comment or a line comment for every exported function, method of an exported
// type, type, constant and variable. The comment of a group of constants or variables counts for all of them.
func TestExportedIdentifiersAreDocumented(t *testing.T) {
	err := filepath.WalkDir("../../internal", func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return err
		}
		files := token.NewFileSet()
		file, err := parser.ParseFile(files, path, nil, parser.ParseComments|parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		for _, missing := range undocumented(file) {
			t.Errorf("%s: %s is exported and has no documentation", files.Position(missing.Pos()), missing.Name)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// undocumented lists the exported identifiers of a file that have no comment.
func undocumented(file *ast.File) []*ast.Ident {
	var missing []*ast.Ident
	demand := func(name *ast.Ident, comments ...*ast.CommentGroup) {
		if name.IsExported() && !slices.ContainsFunc(comments, func(c *ast.CommentGroup) bool { return c.Text() != "" }) {
			missing = append(missing, name)
		}
	}
	for _, decl := range file.Decls {
		switch decl := decl.(type) {
		case *ast.FuncDecl:
			if receiver := receiverType(decl); receiver == nil || receiver.IsExported() {
				demand(decl.Name, decl.Doc)
			}
		case *ast.GenDecl:
			for _, spec := range decl.Specs {
				switch spec := spec.(type) {
				case *ast.TypeSpec:
					demand(spec.Name, decl.Doc, spec.Doc, spec.Comment)
				case *ast.ValueSpec:
					for _, name := range spec.Names {
						demand(name, decl.Doc, spec.Doc, spec.Comment)
					}
				}
			}
		}
	}
	return missing
}

// receiverType names the type that a method belongs to; it is nil for a function.
func receiverType(decl *ast.FuncDecl) *ast.Ident {
	if decl.Recv == nil {
		return nil
	}
	expr := decl.Recv.List[0].Type
	for {
		switch e := expr.(type) {
		case *ast.StarExpr:
			expr = e.X
		case *ast.IndexExpr:
			expr = e.X
		case *ast.IndexListExpr:
			expr = e.X
		case *ast.Ident:
			return e
		default:
			return nil
		}
	}
}
