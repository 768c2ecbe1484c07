// Package logs keeps what containers print. It writes log files of Docker's json-file format (one JSON object on each line), rotates them
// by size, and reads them back: the last lines, a span of time, or every line as it is printed.
package logs

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"time"

	"github.com/containerd/errdefs"
	"github.com/docker/go-units"
)

// Stream is the output stream that a line was written to.
type Stream string

// The output streams of a container.
const (
	Stdout Stream = "stdout"
	Stderr Stream = "stderr"
)

// Line is a line of output, or a part of one that is longer than 16 KiB.
type Line struct {
	Text   string    `json:"log"` // ends in a newline, unless more of the line follows or the output ended without one
	Stream Stream    `json:"stream"`
	Time   time.Time `json:"time"` // when it arrived, in UTC; later than that of every line before it
}

// Options says where a log is written and when it is rotated.
type Options struct {
	Driver  string // json-file, local (the same format with other defaults) or none
	MaxSize int64  // bytes before a file is rotated; 0 for no limit
	MaxFile int    // how many files are kept, the one that is written to among them; at least 1
}

// ParseOptions reads the options of a log driver; "" is json-file. An unknown driver or option, or a malformed value, is an invalid
// argument. Docker's options that shoal has no use for are accepted and ignored.
func ParseOptions(driver string, options map[string]string) (Options, error) {
	o := Options{Driver: driver, MaxFile: 1}
	switch driver {
	case "", "json-file":
		o.Driver = "json-file"
	case "local":
		o.MaxSize, o.MaxFile = 20<<20, 5
	case "none":
	default:
		return o, fmt.Errorf("logger: no log driver named '%s' is registered: %w", driver, errdefs.ErrInvalidArgument)
	}
	for key, value := range options {
		var err error
		switch key {
		case "max-size":
			o.MaxSize, err = units.RAMInBytes(value)
		case "max-file":
			o.MaxFile, err = strconv.Atoi(value)
			if err == nil && o.MaxFile < 1 {
				err = fmt.Errorf("max-file cannot be less than 1")
			}
		case "labels", "labels-regex", "env", "env-regex", "tag", "compress", "mode", "max-buffer-size":
		default:
			err = fmt.Errorf("unknown log opt '%s' for %s log driver", key, o.Driver)
		}
		if err != nil {
			return o, fmt.Errorf("%w: %w", err, errdefs.ErrInvalidArgument)
		}
	}
	return o, nil
}

// Log is the stored output of one container. It is safe for concurrent use.
type Log struct {
	path string // of the newest file
	opts Options
	room func(bytes int64) error // may be nil

	mu      sync.Mutex    // guards the fields below
	file    *os.File      // the newest file, open for writing; nil before the first line after Open or End
	size    int64         // of file, in bytes
	changed chan struct{} // closed and replaced whenever a line was written or the log has ended
	open    bool          // between Begin and End
	last    time.Time     // of the newest line; zero before the first since the daemon started
}

// Open returns the log whose newest file is at path. It creates no file before the first line. Lines for which room is an error are dropped; if it is nil,
// there always is room.
func Open(path string, opts Options, room func(bytes int64) error) *Log {
	return &Log{path: path, opts: opts, room: room, changed: make(chan struct{})}
}

// Path returns the path of the newest file, "" for the driver none.
func (l *Log) Path() string {
	if l.opts.Driver == "none" {
		return ""
	}
	return l.path
}

// Begin marks the log as written to by a running container: readers that follow it wait for more until End.
func (l *Log) Begin() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.open = true
}

// End marks the log as complete until the next Begin, and closes its file: readers that follow it return once they have all.
func (l *Log) End() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.open = false
	if l.file != nil {
		_ = l.file.Close() // nothing is buffered
		l.file = nil
	}
	l.wakeLocked()
}

// wakeLocked wakes the readers that follow the log.
func (l *Log) wakeLocked() {
	close(l.changed)
	l.changed = make(chan struct{})
}

// Append writes a line. It raises the line's time if needed, so that no two lines have the same one: readers continue after the time
// of the last line they have. With the driver none it does nothing.
func (l *Log) Append(line Line) error {
	if l.opts.Driver == "none" {
		return nil
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if !line.Time.After(l.last) {
		line.Time = l.last.Add(1)
	}
	l.last = line.Time
	var buf bytes.Buffer
	enc := json.NewEncoder(&buf)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(line); err != nil {
		return fmt.Errorf("encode log line: %w", err)
	}
	if l.room != nil {
		if err := l.room(int64(buf.Len())); err != nil {
			return err
		}
	}
	if err := l.openLocked(); err != nil {
		return err
	}
	if l.opts.MaxSize > 0 && l.size > 0 && l.size+int64(buf.Len()) > l.opts.MaxSize {
		if err := l.rotateLocked(); err != nil {
			return err
		}
	}
	n, err := l.file.Write(buf.Bytes())
	l.size += int64(n)
	l.wakeLocked()
	if err != nil {
		return fmt.Errorf("write log: %w", err)
	}
	return nil
}

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

// rotateLocked begins a new file: it moves every file one number up and deletes the oldest.
func (l *Log) rotateLocked() error {
	_ = l.file.Close() // nothing is buffered
	l.file = nil
	for n := l.opts.MaxFile - 1; n > 0; n-- {
		if err := os.Rename(l.rotatedPath(n-1), l.rotatedPath(n)); err != nil && !os.IsNotExist(err) {
			return fmt.Errorf("rotate log: %w", err)
		}
	}
	// With a single file, there is none to move it to.
	if err := os.Remove(l.path); err != nil && !os.IsNotExist(err) {
		return fmt.Errorf("rotate log: %w", err)
	}
	return l.openLocked()
}

// rotatedPath is the path of a file after it was rotated n times; the higher n, the older.
func (l *Log) rotatedPath(n int) string {
	if n == 0 {
		return l.path
	}
	return l.path + "." + strconv.Itoa(n)
}
