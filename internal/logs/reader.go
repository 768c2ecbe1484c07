package logs

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
)

// reader decodes lines and passes on those that the query asks for.
type reader struct {
	query   Query
	each    func(Line) error
	buf     *bufio.Reader // of the file that is followed; nil before the first read of it
	partial []byte        // the start of a line whose end has not been written yet
}

// resume returns a buffer that continues where the last read of the file that is followed has ended.
func (r *reader) resume(f *logFile) *bufio.Reader {
	if r.buf == nil {
		r.buf = bufio.NewReaderSize(f, 64<<10)
	}
	return r.buf
}

// drain reads complete lines until the end of the file, and keeps the start of an incomplete one for the next call.
func (r *reader) drain(b *bufio.Reader) error {
	for {
		data, err := b.ReadBytes('\n')
		r.partial = append(r.partial, data...)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("read log: %w", err)
		}
		line, ok := decode(r.partial)
		r.partial = r.partial[:0]
		if !ok || !r.query.wants(line) {
			continue
		}
		if r.query.pastUntil(line) {
			return errPastUntil
		}
		if err := r.each(line); err != nil {
			return err
		}
	}
}

// tail passes on the last lines only.
func (r *reader) tail(files []*logFile) error {
	ring := make([]Line, 0, min(r.query.Tail, 4096)) // a ring buffer of the last lines so far
	next := 0                                        // where in it the next line goes, which is where the oldest is
	all := &reader{query: r.query, each: func(l Line) error {
		switch {
		case r.query.Tail == 0:
		case len(ring) < r.query.Tail:
			ring = append(ring, l)
		default:
			ring[next] = l
			next = (next + 1) % r.query.Tail
		}
		return nil
	}}
	for _, f := range files {
		err := all.drain(bufio.NewReaderSize(f, 64<<10))
		if errors.Is(err, errPastUntil) {
			break
		}
		if err != nil {
			return err
		}
	}
	for i := range ring {
		if err := r.each(ring[(next+i)%len(ring)]); err != nil {
			return err
		}
	}
	return nil
}

// decode reads a stored line; ok is false for one that is damaged, which readers leave out.
func decode(data []byte) (line Line, ok bool) {
	err := json.Unmarshal(data, &line)
	return line, err == nil
}
