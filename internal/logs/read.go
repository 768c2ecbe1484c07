package logs

import (
	"bufio"
	"context"
	"errors"
	"time"

	"github.com/containerd/errdefs"

	"github.com/shoal-dev/shoal/internal/logs/driver"
)

// Query says which lines to read.
type Query struct {
	Since, Until   time.Time // inclusive; a zero time is no bound
	Tail           int       // how many of the last lines; negative for all
	Follow         bool      // after those, every new line until the log ends
	Stdout, Stderr bool      // of which streams; of neither, nothing is read
}

// wants reports whether a line is of a stream that is asked for, and not before Since.
func (q Query) wants(l Line) bool {
	return (l.Stream == Stdout && q.Stdout || l.Stream == Stderr && q.Stderr) &&
		(q.Since.IsZero() || !l.Time.Before(q.Since))
}

// pastUntil reports whether a line, and so every later one, is after Until.
func (q Query) pastUntil(l Line) bool { return !q.Until.IsZero() && l.Time.After(q.Until) }

// Read calls each for every line that q asks for, oldest first. Without Follow it returns at the end of the log, and ctx has no effect;
// with it, when the log has ended, at q.Until or when ctx is done, which is no error. An error of each stops it and is returned. The
// driver none gives a not implemented error.
func (l *Log) Read(ctx context.Context, q Query, each func(Line) error) error {
	if err := l.Readable(); err != nil {
		return err
	}
	return l.read(ctx, q, each)
}

// Readable is a not implemented error, in Docker's words, if nobody can read the log.
func (l *Log) Readable() error {
	if l.opts.Driver == driver.None || l.opts.Unread {
		return errdefs.ErrNotImplemented.WithMessage("configured logging driver does not support reading")
	}
	return nil
}

// read is Read, also of what is only a buffer.
func (l *Log) read(ctx context.Context, q Query, each func(Line) error) error {
	files, err := l.files(oldest)
	if err != nil {
		return err
	}
	defer closeAll(files)
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
	if !q.Until.IsZero() {
		var cancel context.CancelFunc
		ctx, cancel = context.WithDeadline(ctx, q.Until)
		defer cancel()
	}
	var last *logFile
	if len(files) > 0 {
		last = files[len(files)-1]
	}
	return done(l.follow(ctx, rd, last))
}

// errPastUntil stops a read at the first line after Query.Until.
var errPastUntil = errors.New("past the last wanted line")

// done turns the end of a read at Query.Until into success.
func done(err error) error {
	if errors.Is(err, errPastUntil) {
		return nil
	}
	return err
}
