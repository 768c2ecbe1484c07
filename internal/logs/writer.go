package logs

import (
	"bytes"
	"sync"
	"time"
)

// maxLinePart is how long a line may be before it is logged in parts.
const maxLinePart = 16 << 10

// Writer cuts one stream of output into lines for a log.
type Writer struct {
	log     *Log
	stream  Stream
	mu      sync.Mutex // guards rest
	pending []byte
}

// Writer returns the writer of one of the log's streams.
func (l *Log) Writer(stream Stream) *Writer { return &Writer{log: l, stream: stream} }

// Write never fails, because a full disk must not stop a container's output from being read.
func (w *Writer) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	now := time.Now().UTC()
	data := p
	for len(data) > 0 {
		end := bytes.IndexByte(data, '\n')
		if end < 0 {
			w.pending = append(w.pending, data...)
			break
		}
		w.emit(append(w.pending, data[:end+1]...), now)
		w.pending, data = w.pending[:0], data[end+1:]
	}
	for len(w.pending) >= maxLinePart {
		w.emit(w.pending[:maxLinePart], now)
		w.pending = append(w.pending[:0], w.pending[maxLinePart:]...)
	}
	return len(p), nil
}

// Flush logs an unfinished last line.
func (w *Writer) Flush() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.pending) > 0 {
		w.emit(w.pending, time.Now().UTC())
		w.pending = nil
	}
}

func (w *Writer) emit(text []byte, at time.Time) {
	_ = w.log.Append(Line{Text: string(text), Stream: w.stream, Time: at})
}
