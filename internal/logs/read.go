package logs

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/containerd/errdefs"
)

// Query says which lines to read. A zero Since or Until and a negative Tail mean no bound; without Stdout and Stderr nothing is read.
type Query struct {
	Since, Until time.Time
	Tail         int
	Follow       bool
	Stdout       bool
	Stderr       bool
}

func (q Query) wants(l Line) bool {
	return (l.Stream == Stdout && q.Stdout || l.Stream == Stderr && q.Stderr) &&
		(q.Since.IsZero() || !l.Time.Before(q.Since))
}

func (q Query) pastUntil(l Line) bool { return !q.Until.IsZero() && l.Time.After(q.Until) }

// Read calls each for every line that q asks for, oldest first. Without Follow it returns at the end of the log; with it, when the
// log has ended, at q.Until or when ctx is done, which is no error. An error of each stops it and is returned. The driver none gives
// a not implemented error.
func (l *Log) Read(ctx context.Context, q Query, each func(Line) error) error {
	if l.opts.Driver == "none" {
		return fmt.Errorf("configured logging driver does not support reading: %w", errdefs.ErrNotImplemented)
	}
	if !q.Until.IsZero() {
		var cancel context.CancelFunc
		ctx, cancel = context.WithDeadline(ctx, q.Until)
		if !q.Follow {
			cancel()
			ctx = context.WithoutCancel(ctx)
		}
		defer cancel()
	}
	files, err := l.files()
	if err != nil {
		return err
	}
	defer func() {
		for _, f := range files {
			_ = f.Close() // only read
		}
	}()
	rd := &reader{query: q, each: each}
	if q.Tail >= 0 {
		if err := rd.tail(files); err != nil {
			return done(err)
		}
	} else {
		for _, f := range files {
			if err := rd.drain(bufio.NewReaderSize(f, 64<<10)); err != nil {
				return done(err)
			}
		}
	}
	if !q.Follow {
		return nil
	}
	var last *os.File
	if len(files) > 0 {
		last = files[len(files)-1]
	}
	return done(l.follow(ctx, rd, last))
}

// errPastUntil stops a read at the first line after Query.Until.
var errPastUntil = errors.New("past the last wanted line")

func done(err error) error {
	if errors.Is(err, errPastUntil) {
		return nil
	}
	return err
}

// files opens the log's files, oldest first, with the lock held so that no rotation comes in between.
func (l *Log) files() ([]*os.File, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	var files []*os.File
	for n := max(l.opts.MaxFile, 1) - 1; n >= 0; n-- {
		f, err := os.Open(l.rotatedPath(n))
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("open log: %w", err)
		}
		files = append(files, f)
	}
	return files, nil
}

// follow reads what is appended to file, and to the files that come after it.
func (l *Log) follow(ctx context.Context, rd *reader, file *os.File) error {
	var own *os.File // opened here, closed here
	defer func() {
		if own != nil {
			_ = own.Close() // only read
		}
	}()
	for {
		l.mu.Lock()
		changed, closed := l.changed, l.closed || !l.opened
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
			if own != nil {
				_ = own.Close() // only read
			}
			own, file, rd.buf = next, next, nil
			continue
		}
		if closed {
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

func sameFile(a, b *os.File) bool {
	ia, errA := a.Stat()
	ib, errB := b.Stat()
	return errA == nil && errB == nil && os.SameFile(ia, ib)
}

// reader decodes lines and passes on those that the query asks for.
type reader struct {
	query   Query
	each    func(Line) error
	buf     *bufio.Reader
	partial []byte // the start of a line whose end has not been written yet
}

func (r *reader) resume(f *os.File) *bufio.Reader {
	if r.buf == nil {
		r.buf = bufio.NewReaderSize(f, 64<<10)
	}
	return r.buf
}

// drain reads complete lines until the end of the file.
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
func (r *reader) tail(files []*os.File) error {
	ring := make([]Line, 0, min(r.query.Tail, 4096))
	next := 0
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

func decode(data []byte) (Line, bool) {
	var l Line
	err := json.Unmarshal(data, &l)
	return l, err == nil
}
