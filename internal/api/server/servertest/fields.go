package servertest

import (
	"encoding"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// Fates says of each field of a request what becomes of it. A field is named by its path in JSON, through lists and maps alike
// ("HostConfig.Mounts.Type"); a path stands for all fields below it.
type Fates struct {
	// Honoured is the fields that have the effect that they have in Docker, by the test that shows it.
	Honoured map[string][]string
	Refused  []Refusal
	// Without is the fields that have no effect, in Docker either, by why that is.
	Without map[string][]string
}

// Refusal is a field that is refused: a body that has it, and a part of the answer's words.
type Refusal struct{ Path, Body, Words string }

// CheckFields fails the test for every field of a request's type that has no fate, and for every fate that is not true: a test that is not there, a field that
// is not there, a refusal that is none. refuse sends a body, and returns the words of the refusal, "" if there is none.
func CheckFields(t *testing.T, request reflect.Type, f Fates, refuse func(body string) string) {
	t.Helper()
	fields := map[string]bool{}
	fieldPaths(request, "", fields)
	var known []string
	for test, paths := range f.Honoured {
		CheckTest(t, test)
		known = append(known, paths...)
	}
	for _, r := range f.Refused {
		known = append(known, r.Path)
		if words := refuse(r.Body); words == "" || !strings.Contains(words, r.Words) {
			t.Errorf("%v: %s with %s: refused with %q, want %q", request, r.Path, r.Body, words, r.Words)
		}
	}
	for _, paths := range f.Without {
		known = append(known, paths...)
	}
	covers := func(known, field string) bool { return known == field || strings.HasPrefix(field, known+".") }
	for field := range fields {
		if !slices.ContainsFunc(known, func(k string) bool { return covers(k, field) }) {
			t.Errorf("%v: %s is neither honoured nor refused", request, field)
		}
	}
	for _, k := range known {
		if !slices.ContainsFunc(keys(fields), func(field string) bool { return covers(k, field) }) {
			t.Errorf("%v: there is no field %s", request, k)
		}
	}
}

func keys(m map[string]bool) []string {
	var out []string
	for k := range m {
		out = append(out, k)
	}
	return out
}

// fieldPaths is the paths of a type's fields in JSON, down to what is no struct.
func fieldPaths(t reflect.Type, at string, to map[string]bool) {
	for t.Kind() == reflect.Pointer || t.Kind() == reflect.Slice || t.Kind() == reflect.Map {
		if t.Kind() == reflect.Map && t.Elem().Kind() == reflect.Struct && t.Elem().NumField() == 0 {
			break // a set
		}
		t = t.Elem()
	}
	isText := reflect.PointerTo(t).Implements(reflect.TypeFor[encoding.TextMarshaler]())
	if t.Kind() != reflect.Struct || isText || t.NumField() == 0 {
		to[at] = true
		return
	}
	for f := range t.Fields() {
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		switch {
		case !f.IsExported() || name == "-":
		case f.Anonymous && name == "":
			fieldPaths(f.Type, at, to)
		default:
			if name == "" {
				name = f.Name
			}
			fieldPaths(f.Type, strings.TrimPrefix(at+"."+name, "."), to)
		}
	}
}

// CheckTest fails the test if the module has no test of a name.
func CheckTest(t *testing.T, name string) {
	t.Helper()
	if !slices.Contains(allTests(t), name) {
		t.Errorf("there is no %s", name)
	}
}

var testName = regexp.MustCompile(`(?m)^func (Test\w+|Fuzz\w+)\(`)

// allTests is the names of the tests of the module that the test is of.
func allTests(t *testing.T) []string {
	t.Helper()
	root, err := filepath.Abs(".")
	if err != nil {
		t.Fatal(err)
	}
	for {
		if _, err := os.Stat(filepath.Join(root, "go.mod")); err == nil {
			break
		}
		if root == filepath.Dir(root) {
			t.Fatal("the test runs outside of the module")
		}
		root = filepath.Dir(root)
	}
	var names []string
	for _, dir := range []string{"internal", "test", "cmd"} {
		err := filepath.WalkDir(filepath.Join(root, dir), func(path string, _ os.DirEntry, err error) error {
			if err != nil || !strings.HasSuffix(path, "_test.go") {
				return err
			}
			text, err := os.ReadFile(path) // #nosec G122 -- of the module itself
			for _, found := range testName.FindAllStringSubmatch(string(text), -1) {
				names = append(names, found[1])
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return names
}
