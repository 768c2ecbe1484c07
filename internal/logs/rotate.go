package logs

import (
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
)

// packedSuffix ends the name of a file that is packed.
const packedSuffix = ".gz"

// openLocked opens the newest file, and creates it if it does not exist.
func (l *Log) openLocked() error {
	if l.file != nil {
		return nil
	}
	if err := os.MkdirAll(filepath.Dir(l.path), 0o700); err != nil {
		return fmt.Errorf("open log: %w", err)
	}
	f, err := os.OpenFile(l.path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o640)
	if err != nil {
		return fmt.Errorf("open log: %w", err)
	}
	info, err := f.Stat()
	if err != nil {
		_ = f.Close() // nothing has been written
		return fmt.Errorf("open log: %w", err)
	}
	l.file, l.size = f, info.Size()
	return nil
}

// rotateLocked begins a new file: it moves every file one number up and deletes the oldest. The file before is packed while lines are written on; should that
// take until the next rotation, it waits.
func (l *Log) rotateLocked() error {
	if l.packed != nil {
		<-l.packed
		l.packed = nil
	}
	_ = l.file.Close() // nothing is buffered
	l.file = nil
	for n := l.opts.MaxFile - 1; n > 0; n-- {
		if err := l.move(n-1, n); err != nil {
			return fmt.Errorf("rotate log: %w", err)
		}
	}
	// With a single file, there is none to move it to.
	if err := os.Remove(l.path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("rotate log: %w", err)
	}
	l.rotations++
	if l.opts.Compress && l.opts.MaxFile > 1 {
		done := make(chan struct{})
		l.packed = done
		go func() {
			defer close(done)
			_ = pack(l.rotatedPath(1)) // it stays as it is, and can be read
		}()
	}
	return l.openLocked()
}

// move gives a file that was rotated so many times another number, packed or not. What had that number is gone.
func (l *Log) move(from, to int) error {
	for _, suffix := range []string{"", packedSuffix} {
		err := os.Rename(l.rotatedPath(from)+suffix, l.rotatedPath(to)+suffix)
		if errors.Is(err, fs.ErrNotExist) {
			err = os.Remove(l.rotatedPath(to) + suffix)
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

// rotatedPath is the path of a file after it was rotated n times, unless it is packed; the higher n, the older.
func (l *Log) rotatedPath(n int) string {
	if n == 0 {
		return l.path
	}
	return l.path + "." + strconv.Itoa(n)
}

// pack compresses a file. At every moment the whole of it is there, packed or not.
func pack(path string) error {
	from, err := os.Open(path)
	if err != nil {
		return err
	}
	defer func() { _ = from.Close() }() // only read
	next := path + packedSuffix + ".next"
	to, err := os.OpenFile(next, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o640)
	if err != nil {
		return err
	}
	w := gzip.NewWriter(to)
	_, err = io.Copy(w, from)
	err = errors.Join(err, w.Close())
	if err == nil {
		err = to.Sync() // a loss of power must not leave an empty file in place of the other
	}
	err = errors.Join(err, to.Close())
	if err == nil {
		err = os.Rename(next, path+packedSuffix)
	}
	if err != nil {
		_ = os.Remove(next) // what is left is written over next time
		return err
	}
	return os.Remove(path)
}
