package logs

import (
	"bytes"
	"sync"
	"time"
)

// maxLinePart is the length in bytes of the parts in which a longer line is logged, as in Docker.
const maxLinePart = 16 << 10

// Writer splits one output stream into the lines of a log. It is safe for concurrent use.
type Writer struct {
	log     *Log
	stream  Stream
	mu      sync.Mutex // guards pending
	pending []byte     // the start of a line that has no newline yet
}

// Writer returns a new writer for one of the log's streams.
func (l *Log) Writer(stream Stream) *Writer { return &Writer{log: l, stream: stream} }

// Write logs the complete lines in p and keeps the rest for the next call. It never fails, because a full disk must not block the
// container that writes: lines that cannot be stored are dropped.
func (w *Writer) Write(p []byte) (int, error) {
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
	return len(p), nil
}

// Flush logs what is left of a last line without a newline.
func (w *Writer) Flush() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.pending) > 0 {
		w.emit([]Line{{Text: string(w.pending), Stream: w.stream, Time: time.Now().UTC()}})
		w.pending = nil
	}
}

// emit stores lines. What cannot be stored is dropped.
func (w *Writer) emit(lines []Line) {
	if len(lines) > 0 {
		_ = w.log.Append(lines...)
	}
}
