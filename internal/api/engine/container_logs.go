package engine

import (
	"io"
	"net/http"
	"strconv"
	"time"

	"github.com/shoal-dev/shoal/internal/api/convert"
	"github.com/shoal-dev/shoal/internal/api/server"
	"github.com/shoal-dev/shoal/internal/logs"
)

func (c *containers) logs(w http.ResponseWriter, r *http.Request) error {
	info, err := c.engine.Inspect(r.PathValue("id"))
	if err != nil {
		return err
	}
	q, err := fromAPILogQuery(r)
	if err != nil {
		return err
	}
	if err := c.engine.LogsReadable(info.ID); err != nil {
		return err
	}
	w.Header().Set("Content-Type", server.StreamType(r, info.Spec.TTY))
	w.WriteHeader(http.StatusOK)
	_ = http.NewResponseController(w).Flush()
	stdout, stderr := server.OutputWriters(server.NewFlushWriter(w), info.Spec.TTY)
	timestamps, details := server.BoolParam(r, "timestamps"), server.BoolParam(r, "details")
	err = c.engine.Logs(r.Context(), info.ID, q, func(l logs.Line) error {
		to, text := stdout, l.Text
		if l.Stream == logs.Stderr {
			to = stderr
		}
		if details {
			text = convert.LogAttributes(l.Attrs) + " " + text
		}
		if timestamps {
			text = l.Time.UTC().Format(server.LogTimeLayout) + " " + text
		}
		_, err := io.WriteString(to, text)
		return err
	})
	if err != nil && r.Context().Err() == nil {
		c.log.Debug("container logs ended early; the client has only a part of them", "container", info.ID, "err", err)
	}
	return nil
}

// fromAPILogQuery reads which lines a request asks for.
func fromAPILogQuery(r *http.Request) (logs.Query, error) {
	q := logs.Query{Tail: -1, Follow: server.BoolParam(r, "follow"), Stdout: server.BoolParam(r, "stdout"), Stderr: server.BoolParam(r, "stderr")}
	if !q.Stdout && !q.Stderr {
		return q, server.BadRequest("Bad parameters: you must choose at least one stream")
	}
	if n, err := strconv.Atoi(r.FormValue("tail")); err == nil {
		q.Tail = n
	}
	now := time.Now()
	for _, t := range []struct {
		name string
		to   *time.Time
	}{{"since", &q.Since}, {"until", &q.Until}} {
		var err error
		if *t.to, err = server.ParseTimeOrAge(r.FormValue(t.name), now); err != nil {
			return q, server.BadRequest("invalid value for %q: %v", t.name, err)
		}
	}
	return q, nil
}
