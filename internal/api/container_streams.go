package api

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strconv"
	"time"

	"github.com/shoal-dev/shoal/internal/container"
	"github.com/shoal-dev/shoal/internal/logs"
)

func (c *containers) attach(w http.ResponseWriter, r *http.Request) error {
	info, err := c.engine.Inspect(r.PathValue("id"))
	if err != nil {
		return err
	}
	if info.State.Status == container.Paused {
		return fail(http.StatusConflict, "container %s is paused, unpause the container before attach", info.ID)
	}
	keys, err := detachKeys(r.FormValue("detachKeys"))
	if err != nil {
		return err
	}
	conn, err := hijack(w, r, info.Spec.TTY)
	if err != nil {
		return err
	}
	defer conn.Close()
	ctx, cancel := context.WithCancel(context.WithoutCancel(r.Context()))
	defer cancel()
	spec := container.AttachSpec{Logs: flag(r, "logs"), Stream: flag(r, "stream")}
	stdout, stderr := framed(conn)
	if info.Spec.TTY {
		stdout, stderr = conn, conn
	}
	if flag(r, "stdout") {
		spec.Stdout = stdout
	}
	if flag(r, "stderr") {
		spec.Stderr = stderr
	}
	if flag(r, "stdin") {
		spec.Stdin = conn.in
		if info.Spec.TTY {
			spec.Stdin = &onError{&detachReader{r: conn.in, keys: keys}, errDetached, cancel}
		}
	}
	if err := c.engine.Attach(ctx, info.ID, spec, func() {}); err != nil {
		conn.say(info.Spec.TTY, err)
	}
	return nil
}

// onError calls back when a certain error is read.
type onError struct {
	io.Reader
	err error
	do  func()
}

func (o *onError) Read(p []byte) (int, error) {
	n, err := o.Reader.Read(p)
	if errors.Is(err, o.err) {
		o.do()
	}
	return n, err
}

func (c *containers) logs(w http.ResponseWriter, r *http.Request) error {
	info, err := c.engine.Inspect(r.PathValue("id"))
	if err != nil {
		return err
	}
	q, err := logQuery(r)
	if err != nil {
		return err
	}
	if info.LogPath == "" {
		return fail(http.StatusNotImplemented, "configured logging driver does not support reading")
	}
	kind := multiplexedStream
	if info.Spec.TTY {
		kind = rawStream
	}
	w.Header().Set("Content-Type", kind)
	w.WriteHeader(http.StatusOK)
	_ = http.NewResponseController(w).Flush()
	out := flushing{w}
	stdout, stderr := framed(out)
	if info.Spec.TTY {
		stdout, stderr = out, out
	}
	stamps := flag(r, "timestamps")
	err = c.engine.Logs(r.Context(), info.ID, q, func(l logs.Line) error {
		to, text := stdout, l.Text
		if l.Stream == logs.Stderr {
			to = stderr
		}
		if stamps {
			text = l.Time.UTC().Format(nanoStamp) + " " + text
		}
		_, err := io.WriteString(to, text)
		return err
	})
	if err != nil && r.Context().Err() == nil {
		c.log.Debug("logs ended early", "container", info.ID, "err", err)
	}
	return nil
}

// nanoStamp is RFC 3339 with all nine digits, so that lines stay aligned.
const nanoStamp = "2006-01-02T15:04:05.000000000Z07:00"

func logQuery(r *http.Request) (logs.Query, error) {
	q := logs.Query{Tail: -1, Follow: flag(r, "follow"), Stdout: flag(r, "stdout"), Stderr: flag(r, "stderr")}
	if !q.Stdout && !q.Stderr {
		return q, fail(http.StatusBadRequest, "Bad parameters: you must choose at least one stream")
	}
	if n, err := strconv.Atoi(r.FormValue("tail")); err == nil {
		q.Tail = n
	}
	now := time.Now()
	q.Since, _ = parseTime(r.FormValue("since"), now)
	q.Until, _ = parseTime(r.FormValue("until"), now)
	return q, nil
}
