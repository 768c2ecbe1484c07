package atomicfile

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"reflect"
	"strings"
)

// versionField is the field of a record that has its schema version. Records of before there were versions have none, which is 0.
const versionField = "SchemaVersion"

// Writer is Write, WriteWhole or WriteVolatile.
type Writer func(path string, data []byte, mode os.FileMode) error

// WriteRecord is write for a record that daemons of several versions may write, given its encoding. T is the record's type and version the schema's that
// this daemon writes. What a newer daemon has written into the record and T has no fields for stays in it, in objects within objects too, and so does a
// higher version: after a downgrade and the next upgrade nothing is lost that the older daemon did not change.
func WriteRecord[T any](write Writer, path string, encoded []byte, version int, mode os.FileMode) error {
	var now map[string]json.RawMessage
	if err := json.Unmarshal(encoded, &now); err != nil {
		return fmt.Errorf("write %s: not a record: %w", path, err)
	}
	var before map[string]json.RawMessage
	old, err := os.ReadFile(path)
	if err == nil {
		_ = json.Unmarshal(old, &before) // what is malformed has nothing to keep
	} else if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	version = max(version, versionOf(before))
	delete(before, versionField)
	keepUnknown(now, before, reflect.TypeFor[T]())
	now[versionField] = json.RawMessage(fmt.Sprint(version))
	data, err := json.Marshal(now)
	if err != nil {
		return err
	}
	return write(path, data, mode)
}

func versionOf(record map[string]json.RawMessage) int {
	var version int
	_ = json.Unmarshal(record[versionField], &version) // none is 0
	return version
}

// keepUnknown adds to now the fields of before that a struct of type t has no fields for.
func keepUnknown(now, before map[string]json.RawMessage, t reflect.Type) {
	known := fieldTypes(t)
	for name, was := range before {
		field, ok := known[strings.ToLower(name)]
		if !ok {
			now[name] = was
			continue
		}
		for field.Kind() == reflect.Pointer {
			field = field.Elem()
		}
		var nowObject, wasObject map[string]json.RawMessage
		if field.Kind() != reflect.Struct || reflect.PointerTo(field).Implements(reflect.TypeFor[json.Unmarshaler]()) || json.Unmarshal(was, &wasObject) != nil || json.Unmarshal(now[name], &nowObject) != nil || nowObject == nil {
			continue // a value that this daemon knows, or objects of its own encoding, such as times
		}
		keepUnknown(nowObject, wasObject, field)
		if merged, err := json.Marshal(nowObject); err == nil {
			now[name] = merged
		}
	}
}

// fieldTypes is the types of the fields that encoding/json gives a struct, by their names in small letters, as it compares them.
func fieldTypes(t reflect.Type) map[string]reflect.Type {
	fields := map[string]reflect.Type{}
	for f := range t.Fields() {
		tag := f.Tag.Get("json")
		name, _, _ := strings.Cut(tag, ",")
		switch {
		case tag == "-":
			continue
		case f.Anonymous && name == "" && f.Type.Kind() == reflect.Struct:
			maps.Copy(fields, fieldTypes(f.Type))
		case !f.IsExported():
			continue
		case name == "":
			name = f.Name
		}
		if name != "" {
			fields[strings.ToLower(name)] = f.Type
		}
	}
	return fields
}
