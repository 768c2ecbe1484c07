package logs

import (
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"time"
)

// logFile is a file of a log that is being read. It stays what it is when it is rotated or packed.
type logFile struct {
	io.Reader
	file *os.File
	at   int // how many rotations there were before it: what names it as long as the log is open
}

// close ends the reading.
func (f *logFile) close() { _ = f.file.Close() } // only read

// files opens the log's files for reading, oldest first, from the one with the given number of rotations on.
func (l *Log) files(from int) ([]*logFile, error) {
	l.mu.Lock() // no file is rotated meanwhile
	defer l.mu.Unlock()
	var files []*logFile
	for n := min(l.opts.MaxFile-1, l.rotations-from); n >= 0; n-- {
		f, err := l.openRotated(n)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			closeAll(files)
			return nil, fmt.Errorf("open log: %w", err)
		}
		f.at = l.rotations - n
		files = append(files, f)
	}
	return files, nil
}

// oldest is less than the number of rotations before any file.
const oldest = -1 << 31

// openRotated opens a file that was rotated n times. It looks for the packed one last, as that is there before the other goes.
func (l *Log) openRotated(n int) (*logFile, error) {
	f, err := os.Open(l.rotatedPath(n))
	if err == nil {
		return &logFile{Reader: f, file: f}, nil
	}
	if n == 0 || !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	f, err = os.Open(l.rotatedPath(n) + packedSuffix)
	if err != nil {
		return nil, err
	}
	r, err := gzip.NewReader(f)
	if err != nil { // damaged: the others can be read
		_ = f.Close()
		return nil, fs.ErrNotExist
	}
	return &logFile{Reader: r, file: f}, nil
}

// closeAll ends the reading of files.
func closeAll(files []*logFile) {
	for _, f := range files {
		f.close()
	}
}

// lastTime is the time of the newest line in the files, zero if there is none.
func (l *Log) lastTime() time.Time {
	const enough = 256 << 10 // the longest lines, escaped, with their attributes
	for n := range 2 {       // after a rotation the newest file can be empty
		f, err := l.openRotated(n)
		if err != nil {
			continue
		}
		if f.file == f.Reader {
			if info, err := f.file.Stat(); err == nil && info.Size() > enough {
				_, _ = f.file.Seek(-enough, io.SeekEnd) // a failure reads the whole
			}
		}
		var last time.Time
		rd := &reader{query: Query{Stdout: true, Stderr: true}, each: func(line Line) error { last = line.Time; return nil }}
		_ = rd.drain(rd.resume(f)) // what could be read counts
		f.close()
		if !last.IsZero() {
			return last
		}
	}
	return time.Time{}
}
