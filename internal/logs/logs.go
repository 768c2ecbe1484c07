// Package logs keeps what containers print. It writes log files of Docker's json-file format (one JSON object on each line), rotates them
// by size, and reads them back: the last lines, a span of time, or every line as it is printed. For log drivers that keep lines elsewhere it also hands them
// on, from the files.
package logs

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"sync"
	"time"

	"github.com/shoal-dev/shoal/internal/logs/driver"
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
	Text   string            `json:"log"` // ends in a newline, unless more of the line follows or the output ended without one
	Stream Stream            `json:"stream"`
	Attrs  map[string]string `json:"attrs,omitempty"` // what the log driver's options add to each line
	Time   time.Time         `json:"time"`            // when it arrived, in UTC; later than that of every line before it
}

// Log is the stored output of one container. It is safe for concurrent use.
type Log struct {
	path string // of the newest file
	opts Options
	room func(bytes int64) error // may be nil

	newSender func(name string, options map[string]string, f driver.Facts) (driver.Sender, driver.Policy, error) // driver.New, save in tests

	appending sync.Mutex // held while lines are written and queued, so that both have the same order; taken before mu

	mu        sync.Mutex    // guards the fields below
	file      *os.File      // the newest file, open for writing; nil before the first line after Open or End
	size      int64         // of file, in bytes
	rotations int           // since Open
	packed    chan struct{} // closed when the last rotated file is packed; nil if none was
	changed   chan struct{} // closed and replaced whenever a line was written or the log has ended
	open      bool          // between Begin and End
	last      time.Time     // of the newest line; zero before the first since the daemon started
	attrs     map[string]string
	forwarder *forwarder // nil unless the driver keeps lines elsewhere
}

// Open returns the log whose newest file is at path. It creates no file before the first line. Lines for which room is an error are dropped; if it is nil,
// there always is room.
func Open(path string, opts Options, room func(bytes int64) error) *Log {
	opts.MaxFile = max(opts.MaxFile, 1)
	return &Log{path: path, opts: opts, room: room, newSender: driver.New, changed: make(chan struct{})}
}

// Path returns the path that users are told: that of the newest file of the driver json-file, "" for all others.
func (l *Log) Path() string {
	if l.opts.Driver != driver.JSONFile {
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
	l.Exiting()
	l.mu.Lock()
	defer l.mu.Unlock()
	l.open = false
	if l.file != nil {
		_ = l.file.Close() // nothing is buffered
		l.file = nil
	}
	l.wakeLocked()
	if l.forwarder != nil {
		l.forwarder.end()
	}
}

// wakeLocked wakes the readers that follow the log.
func (l *Log) wakeLocked() {
	close(l.changed)
	l.changed = make(chan struct{})
}

// Append writes lines. It raises a line's time if needed, so that no two lines have the same one: readers continue after the time
// of the last line they have. With the driver none it does nothing. If the driver keeps lines elsewhere, they are queued, even if they could not be written.
func (l *Log) Append(lines ...Line) error {
	if l.opts.Driver == driver.None {
		return nil
	}
	l.appending.Lock()
	defer l.appending.Unlock()
	forwarder, err := l.store(lines)
	if forwarder != nil {
		for _, line := range lines {
			forwarder.enqueue(line)
		}
	}
	return err
}

// Wait returns when there is room for more lines in the queue of a driver that keeps them elsewhere, or nothing is to wait.
func (l *Log) Wait() {
	if f := l.current(); f != nil {
		f.wait()
	}
}

// store writes lines to the file, and returns what hands them on.
func (l *Log) store(lines []Line) (*forwarder, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for i := range lines {
		if !lines[i].Time.After(l.last) {
			lines[i].Time = l.last.Add(1)
		}
		l.last, lines[i].Attrs = lines[i].Time, l.attrs
	}
	var buf bytes.Buffer
	enc := json.NewEncoder(&buf)
	enc.SetEscapeHTML(false)
	for i := range lines {
		before := buf.Len()
		if err := enc.Encode(&lines[i]); err != nil {
			return l.forwarder, fmt.Errorf("encode log line: %w", err)
		}
		if l.opts.MaxSize <= 0 || before == 0 {
			continue
		}
		if err := l.openLocked(); err != nil {
			return l.forwarder, err
		}
		if l.size+int64(buf.Len()) > l.opts.MaxSize { // what came before fills the file
			if err := l.writeLocked(buf.Next(before)); err != nil {
				return l.forwarder, err
			}
		}
	}
	return l.forwarder, l.writeLocked(buf.Bytes())
}

// writeLocked writes whole lines, to a new file if they do not fit into the present one.
func (l *Log) writeLocked(data []byte) error {
	if len(data) == 0 {
		return nil
	}
	if l.room != nil {
		if err := l.room(int64(len(data))); err != nil {
			return err
		}
	}
	if err := l.openLocked(); err != nil {
		return err
	}
	if l.opts.MaxSize > 0 && l.size > 0 && l.size+int64(len(data)) > l.opts.MaxSize {
		if err := l.rotateLocked(); err != nil {
			return err
		}
	}
	n, err := l.file.Write(data)
	l.size += int64(n)
	l.wakeLocked()
	if err != nil {
		return fmt.Errorf("write log: %w", err)
	}
	return nil
}
