// Package atomicfile replaces files as a whole and makes them outlive a loss of power. It writes the new content to a second file in the same
// directory, flushes it to the disk, renames it over the first and flushes the directory. So whoever reads the file, also after a crash of the
// daemon or of the machine, finds the old content or the new and never a part; once a call has returned, it is the new one (docs/durability.md).
package atomicfile

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

// newSuffix ends the name of the second file. A file of this name that a killed daemon left behind is overwritten by the next Write.
const newSuffix = ".new"

// Step is one operation on the disk.
type Step string

// The operations on the disk.
const (
	StepCreate   Step = "create"
	StepWrite    Step = "write"
	StepFlush    Step = "flush"
	StepRename   Step = "rename"
	StepMove     Step = "move" // the same, told of before it with the old name, where that is not of a second file
	StepMkdir    Step = "make directory"
	StepRemove   Step = "remove"
	StepFlushDir Step = "flush directory"
)

// Write replaces the content of the file at path, or creates it with the permissions of mode. The directory must exist. After an error
// the file has its previous content, unless only the directory could not be flushed: then it has the new content, which a loss of power may
// undo. Two calls for one path must not run at the same time.
func Write(path string, data []byte, mode os.FileMode) error {
	if err := WriteWhole(path, data, mode); err != nil {
		return err
	}
	return FlushDir(filepath.Dir(path))
}

// WriteWhole is Write for a file that a loss of power may undo, and may not cut short: only the content is flushed.
func WriteWhole(path string, data []byte, mode os.FileMode) error {
	return replace(path, data, mode, true)
}

// WriteVolatile is Write for a file that ends with the machine's uptime, such as those below the exec root: nothing is flushed, and only a death of the
// daemon leaves the old content or the new.
func WriteVolatile(path string, data []byte, mode os.FileMode) error {
	return replace(path, data, mode, false)
}

func replace(path string, data []byte, mode os.FileMode, flush bool) error {
	second := path + newSuffix
	if err := writeFile(second, data, mode, flush); err != nil {
		return errors.Join(err, removeIfExists(second))
	}
	if err := rename(second, path); err != nil {
		return errors.Join(err, removeIfExists(second))
	}
	return nil
}

func writeFile(path string, data []byte, mode os.FileMode, flush bool) (err error) {
	if err := before(StepCreate, path); err != nil {
		return err
	}
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, mode)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	if err := before(StepWrite, path); err != nil {
		_, _ = file.Write(data[:len(data)/2]) // as a full disk does
		return err
	}
	if _, err := file.Write(data); err != nil {
		return err
	}
	if !flush {
		return nil
	}
	if err := before(StepFlush, path); err != nil {
		return err
	}
	return file.Sync()
}

func rename(from, to string) error {
	if err := before(StepRename, to); err != nil {
		return err
	}
	return os.Rename(from, to)
}

func removeIfExists(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}

// FlushDir flushes a directory to the disk: that files in it were made, renamed or removed then outlives a loss of power.
func FlushDir(dir string) error {
	if err := before(StepFlushDir, dir); err != nil {
		return err
	}
	opened, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(opened.Sync(), opened.Close())
}

// Rename renames a file or directory and flushes both directories that this changes.
func Rename(from, to string) error {
	if err := before(StepMove, from); err != nil {
		return err
	}
	if err := rename(from, to); err != nil {
		return err
	}
	err := FlushDir(filepath.Dir(to))
	if filepath.Dir(from) != filepath.Dir(to) {
		err = errors.Join(err, FlushDir(filepath.Dir(from)))
	}
	return err
}

// Mkdir makes a directory with the permissions of mode and those above it that are missing, and flushes what it made. It is no error if
// the directory exists.
func Mkdir(dir string, mode os.FileMode) error {
	if _, err := os.Stat(dir); err == nil {
		return nil
	}
	parent := filepath.Dir(dir)
	if parent != dir {
		if err := Mkdir(parent, mode); err != nil {
			return err
		}
	}
	if err := before(StepMkdir, dir); err != nil {
		return err
	}
	if err := os.Mkdir(dir, mode); err != nil && !errors.Is(err, os.ErrExist) {
		return err
	}
	if err := FlushDir(parent); err != nil {
		return errors.Join(err, removeIfExists(dir)) // whoever tries again must not take it for flushed
	}
	return nil
}

// RemoveAll removes the file or directory at path with all that is in it, and flushes the directory that it was in. It is no error if
// there is none.
func RemoveAll(path string) error {
	if err := before(StepRemove, path); err != nil {
		return err
	}
	if err := os.RemoveAll(path); err != nil {
		return err
	}
	return FlushDir(filepath.Dir(path))
}

// WriteJSON is Write with the JSON encoding of value. A value that cannot be encoded is an error and leaves the file as it is.
func WriteJSON(path string, value any, mode os.FileMode) error {
	data, err := json.Marshal(value)
	if err != nil {
		return err
	}
	return Write(path, data, mode)
}

// ReadJSON decodes the file at path into value. The error wraps fs.ErrNotExist if there is no such file, and ErrMalformed, naming the file, if
// its content is not the JSON encoding of such a value.
func ReadJSON(path string, value any) error {
	data, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(data, value); err != nil {
		return fmt.Errorf("read %s: %w: %w", path, ErrMalformed, err)
	}
	return nil
}

// ErrMalformed says that a file was read and does not hold what it should: reading it again will not help.
var ErrMalformed = errors.New("malformed record")
