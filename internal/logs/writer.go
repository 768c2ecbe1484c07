package logs

import (
	"bytes"
	"sync"
	"time"
)

// maxPart is how long a line may be before it is logged in parts.
const maxPart = 16 << 10

// Writer cuts one stream of output into lines for a log.
type Writer struct {
	log    *Log
	stream Stream
	mu     sync.Mutex // guards rest
	rest   []byte
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
			w.rest = append(w.rest, data...)
			break
		}
		w.emit(append(w.rest, data[:end+1]...), now)
		w.rest, data = w.rest[:0], data[end+1:]
	}
	for len(w.rest) >= maxPart {
		w.emit(w.rest[:maxPart], now)
		w.rest = append(w.rest[:0], w.rest[maxPart:]...)
	}
	return len(p), nil
}

// Flush logs an unfinished last line.
func (w *Writer) Flush() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.rest) > 0 {
		w.emit(w.rest, time.Now().UTC())
		w.rest = nil
	}
}

func (w *Writer) emit(text []byte, at time.Time) {
	_ = w.log.Append(Line{Text: string(text), Stream: w.stream, Time: at})
}
