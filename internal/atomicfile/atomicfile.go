// Package atomicfile replaces files as a whole. It writes the new content to a second file in the same directory and renames that
// over the first, so that whoever reads the file, also after the daemon was killed, finds the old content or the new and never a part.
package atomicfile

import (
	"encoding/json"
	"fmt"
	"os"
)

// newSuffix ends the name of the second file. A file of this name that a killed daemon left behind is overwritten by the next Write.
const newSuffix = ".new"

// Write replaces the content of the file at path, or creates it with the permissions of mode. The directory must exist. After an
// error the file has its previous content. Two calls for one path must not run at the same time.
//
// The content is not flushed to the disk (fsync): after a loss of power the file may be empty, or have its previous content.
func Write(path string, data []byte, mode os.FileMode) error {
	if err := os.WriteFile(path+newSuffix, data, mode); err != nil {
		return err
	}
	return os.Rename(path+newSuffix, path)
}

// WriteJSON is Write with the JSON encoding of value. A value that cannot be encoded is an error and leaves the file as it is.
func WriteJSON(path string, value any, mode os.FileMode) error {
	data, err := json.Marshal(value)
	if err != nil {
		return err
	}
	return Write(path, data, mode)
}

// ReadJSON decodes the file at path into value. The error wraps fs.ErrNotExist if there is no such file, and names the file if its content is
// not the JSON encoding of such a value.
func ReadJSON(path string, value any) error {
	data, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(data, value); err != nil {
		return fmt.Errorf("read %s: %w", path, err)
	}
	return nil
}
