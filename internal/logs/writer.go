package logs

import (
	"bytes"
	"sync"
	"time"

	"github.com/shoal-dev/shoal/internal/logs/driver"
)

// maxLinePart is the length in bytes of the parts in which a longer line is logged, as in Docker.
const maxLinePart = 16 << 10

// Writer splits one output stream into the lines of a log. It is safe for concurrent use.
type Writer struct {
	log     *Log
	stream  Stream
	mu      sync.Mutex // guards the fields below
	pending []byte     // the start of a line that has no newline yet
	rest    *rest      // keeps pending
}

// Recover logs what a daemon that was killed had read of lines whose ends nobody will read, as the container has ended since.
func (l *Log) Recover() {
	for _, stream := range []Stream{Stdout, Stderr} {
		if w := l.Writer(stream); len(w.pending) > 0 {
			w.Flush()
		}
	}
}

// Writer returns a new writer for one of the log's streams. It begins with the start of a line that a daemon which was killed had read.
func (l *Log) Writer(stream Stream) *Writer {
	w := &Writer{log: l, stream: stream, rest: &rest{path: l.path + "." + string(stream)}}
	if l.opts.Driver == driver.None {
		w.rest.path = ""
	}
	w.pending = w.rest.load()
	return w
}

// Write is Add and Wait.
func (w *Writer) Write(p []byte) (int, error) {
	w.Add(p)
	w.Wait()
	return len(p), nil
}

// Wait returns when the log can take more: a log driver may let the container wait.
func (w *Writer) Wait() { w.log.Wait() }

// Add logs the complete lines in p and keeps the rest for the next call, also over a death of the daemon. It never fails, because a full disk must not block the
// container that writes: lines that cannot be stored are dropped.
func (w *Writer) Add(p []byte) {
	w.mu.Lock()
	defer w.mu.Unlock()
	now := time.Now().UTC()
	var lines []Line
	add := func(text []byte) { lines = append(lines, Line{Text: string(text), Stream: w.stream, Time: now}) }
	data := p
	for len(data) > 0 {
		end := bytes.IndexByte(data, '\n')
		if end < 0 {
			w.pending = append(w.pending, data...)
			break
		}
		add(append(w.pending, data[:end+1]...))
		w.pending, data = w.pending[:0], data[end+1:]
	}
	for len(w.pending) >= maxLinePart {
		add(w.pending[:maxLinePart])
		w.pending = append(w.pending[:0], w.pending[maxLinePart:]...)
	}
	w.emit(lines)
	w.rest.set(w.pending)
}

// Flush logs what is left of a last line without a newline.
func (w *Writer) Flush() {
	w.mu.Lock()
	defer w.mu.Unlock()
	defer w.rest.close()
	if len(w.pending) > 0 {
		w.emit([]Line{{Text: string(w.pending), Stream: w.stream, Time: time.Now().UTC()}})
		w.pending = nil
		w.rest.set(nil)
	}
}

// emit stores lines. What cannot be stored is dropped.
func (w *Writer) emit(lines []Line) {
	if len(lines) > 0 {
		_ = w.log.Append(lines...)
	}
}
