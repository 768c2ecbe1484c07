package logs

import (
	"context"
	"os"
)

// follow reads what is appended to file, nil for none yet, and to the files that come after it, until the log ends or ctx is done.
func (l *Log) follow(ctx context.Context, rd *reader, file *os.File) error {
	var opened *os.File // by this function, which closes it
	defer func() {
		if opened != nil {
			_ = opened.Close() // only read
		}
	}()
	for {
		l.mu.Lock()
		changed, open := l.changed, l.open
		l.mu.Unlock()
		if file != nil {
			if err := rd.drain(rd.resume(file)); err != nil {
				return err
			}
		}
		next, err := l.nextFile(file)
		if err != nil {
			return err
		}
		if next != nil {
			// After a rotation, the rest of the old file is read first.
			if file != nil {
				if err := rd.drain(rd.resume(file)); err != nil {
					_ = next.Close() // only read
					return err
				}
			}
			if opened != nil {
				_ = opened.Close() // only read
			}
			opened, file, rd.buf = next, next, nil
			continue
		}
		if !open {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil
		}
	}
}

// nextFile opens the file that follows the given one; nil if that is the newest. If rotations have deleted the given file, the oldest
// file left is the next.
func (l *Log) nextFile(file *os.File) (*os.File, error) {
	files, err := l.files()
	if err != nil {
		return nil, err
	}
	next := 0
	for i, f := range files {
		if file != nil && sameFile(f, file) {
			next = i + 1
		}
	}
	var found *os.File
	for i, f := range files {
		if i == next {
			found = f
			continue
		}
		f.Close()
	}
	return found, nil
}

// sameFile reports whether two files are one and the same on the disk, also when it was renamed.
func sameFile(a, b *os.File) bool {
	ia, errA := a.Stat()
	ib, errB := b.Stat()
	return errA == nil && errB == nil && os.SameFile(ia, ib)
}
