// Package servertest makes request bodies that no client sends and every server must survive. It writes nothing.
package servertest

import (
	"encoding/json"
	"fmt"
	"iter"
	"maps"
	"reflect"
	"slices"
	"testing"
)

// maxDepth is how deep a value is filled: types that contain themselves have no end.
const maxDepth = 12

// Nulls is JSON bodies of the type of v, by where each has its null: two for every field, element and map entry that can be reached from v. In one
// everything else is filled in, the other is base with only that, so that one of them gets beyond whatever refuses the other.
func Nulls(t testing.TB, v any, base map[string]any) iter.Seq2[string, []byte] {
	t.Helper()
	full := reflect.New(reflect.TypeOf(v)).Elem()
	fill(full, 0)
	text, err := json.Marshal(full.Interface())
	if err != nil {
		t.Fatal(err)
	}
	var tree any
	if err := json.Unmarshal(text, &tree); err != nil {
		t.Fatal(err)
	}
	encode := func(v any) []byte {
		body, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		return body
	}
	return func(yield func(string, []byte) bool) {
		walk(tree, nil, func(path []any, set func(any), was any) bool {
			at := fmt.Sprint(path...)
			set(nil)
			filled := encode(tree)
			set(was)
			sparse, ok := only(path).(map[string]any)
			if !ok {
				return true
			}
			for key, value := range base {
				if _, has := sparse[key]; !has {
					sparse[key] = value
				}
			}
			return yield(at, filled) && yield(at+" alone", encode(sparse))
		})
	}
}

// only is the JSON value that has null at the path and nothing else.
func only(path []any) any {
	if len(path) == 0 {
		return nil
	}
	if key, ok := path[0].(string); ok {
		return map[string]any{key: only(path[1:])}
	}
	return []any{only(path[1:])}
}

// walk visits everything below a decoded JSON value, until visit returns false. A path is of keys and indices.
func walk(tree any, path []any, visit func(path []any, set func(any), was any) bool) bool {
	switch node := tree.(type) {
	case map[string]any:
		for _, key := range slices.Sorted(maps.Keys(node)) {
			child, at := node[key], append(slices.Clone(path), key)
			if !visit(at, func(v any) { node[key] = v }, child) || !walk(child, at, visit) {
				return false
			}
		}
	case []any:
		for i, child := range node {
			at := append(slices.Clone(path), i)
			if !visit(at, func(v any) { node[i] = v }, child) || !walk(child, at, visit) {
				return false
			}
		}
	}
	return true
}

// fill gives every pointer a target, every slice an element and every map an entry.
func fill(v reflect.Value, depth int) {
	if depth > maxDepth || !v.CanSet() {
		return
	}
	switch v.Kind() { //nolint:exhaustive // the kinds that others can be reached from
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		fill(v.Elem(), depth+1)
	case reflect.Slice:
		if v.Type().Elem().Kind() == reflect.Uint8 {
			return // text, or JSON of its own
		}
		v.Set(reflect.MakeSlice(v.Type(), 1, 1))
		fill(v.Index(0), depth+1)
	case reflect.Map:
		key, value := reflect.New(v.Type().Key()).Elem(), reflect.New(v.Type().Elem()).Elem()
		if key.Kind() == reflect.String {
			key.SetString("k")
		}
		fill(value, depth+1)
		v.Set(reflect.MakeMap(v.Type()))
		v.SetMapIndex(key, value)
	case reflect.Struct:
		for _, value := range v.Fields() {
			fill(value, depth+1)
		}
	case reflect.Array:
		for i := range v.Len() {
			fill(v.Index(i), depth+1)
		}
	}
}
