// Package jsonfile reads and writes the node's records: files with one JSON value each.
package jsonfile

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
)

// Read decodes the file into v. The error wraps fs.ErrNotExist if there is none.
func Read(path string, v any) error {
	b, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(b, v); err != nil {
		return fmt.Errorf("read %s: %w", path, err)
	}
	return nil
}

// Write replaces the file as a whole: a reader finds the old value or the new one. Its folder must exist.
func Write(path string, v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	if err := os.WriteFile(path+".new", b, 0o600); err != nil {
		return err
	}
	if err := os.Rename(path+".new", path); err != nil {
		return errors.Join(err, os.Remove(path+".new"))
	}
	return nil
}
