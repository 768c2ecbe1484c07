package api

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/shoal-dev/shoal/internal/shoal"
	"github.com/shoal-dev/shoal/internal/store"
)

// LogSource finds the logs of tasks wherever they run.
type LogSource func(ctx context.Context, query shoal.LogQuery, each func(shoal.LogLine) error) error

// serviceLogs serves the logs of services and tasks.
type serviceLogs struct {
	cluster Cluster
	source  LogSource
}

func (l *serviceLogs) register(rt *router) {
	rt.handle("GET /services/{id}/logs", l.ofService)
	rt.handle("GET /tasks/{id}/logs", l.ofTask)
}

func (l *serviceLogs) ofService(w http.ResponseWriter, r *http.Request) error {
	s, err := l.cluster.Store()
	if err != nil {
		return err
	}
	view := s.View()
	service, err := findService(view, r.PathValue("id"))
	if err != nil {
		return err
	}
	return l.serve(w, r, logSelection{store: s, service: service.ID})
}

func (l *serviceLogs) ofTask(w http.ResponseWriter, r *http.Request) error {
	s, err := l.cluster.Store()
	if err != nil {
		return err
	}
	view := s.View()
	task, err := findTask(view, r.PathValue("id"))
	if err != nil {
		return err
	}
	return l.serve(w, r, logSelection{store: s, task: task.ID})
}

// logSelection is the tasks whose logs are asked for: those of a service, or a single one.
type logSelection struct {
	store         *store.Store
	service, task shoal.ID
}

// tasks is those that there are now.
func (s logSelection) tasks(v store.View) []*shoal.Task {
	if s.task == "" {
		return v.TasksOfService(s.service)
	}
	if t := v.Task(s.task); t != nil {
		return []*shoal.Task{t}
	}
	return nil
}

func (l *serviceLogs) serve(w http.ResponseWriter, r *http.Request, from logSelection) error {
	req := shoal.LogQuery{Follow: flag(r, "follow"), Stdout: flag(r, "stdout"), Stderr: flag(r, "stderr"), Tail: -1}
	if !req.Stdout && !req.Stderr {
		return fail(http.StatusBadRequest, "Bad parameters: you must choose at least one stream")
	}
	if tail := r.FormValue("tail"); tail != "" && tail != "all" {
		n, err := strconv.Atoi(tail)
		if err == nil && n >= 0 {
			req.Tail = n
		}
	}
	var err error
	if req.Since, err = unixTime(r.FormValue("since")); err != nil {
		return err
	}
	tasks := from.tasks(from.store.View())
	tty := len(tasks) > 0 // a terminal's output is not multiplexed
	for _, t := range tasks {
		req.TaskIDs = append(req.TaskIDs, t.ID)
		tty = tty && t.Spec.Container != nil && t.Spec.Container.TTY
	}
	if tty {
		w.Header().Set("Content-Type", "application/vnd.docker.raw-stream")
	} else {
		w.Header().Set("Content-Type", "application/vnd.docker.multiplexed-stream")
	}
	w.WriteHeader(http.StatusOK)
	flusher := http.NewResponseController(w)
	_ = flusher.Flush() // a writer that cannot flush sends when it is done
	line := logLine{details: flag(r, "details"), timestamps: flag(r, "timestamps"), raw: tty, from: from}
	write := func(m shoal.LogLine) error {
		if err := line.write(w, m); err != nil {
			return err
		}
		return flusher.Flush()
	}
	if req.Follow {
		err = newLogFollower(l.source, from, req, write).run(r.Context())
	} else {
		err = l.source(r.Context(), req, write)
	}
	if err != nil && r.Context().Err() == nil {
		_ = line.write(w, shoal.LogLine{Stderr: true, Err: err.Error()}) // the status has been sent: the stream is where it can be told
	}
	return nil
}

// logLine writes log messages in the form that `docker service logs` reads: "[timestamp ][details ]text".
type logLine struct {
	details, timestamps, raw bool
	from                     logSelection
}

func (l *logLine) write(w io.Writer, m shoal.LogLine) error {
	if m.Err != "" {
		m.Stderr = true
		m.Data = fmt.Appendf(nil, "warning: incomplete log stream. some logs could not be retrieved for the following reasons: %s\n", m.Err)
	}
	var line strings.Builder
	if l.timestamps {
		line.WriteString(m.Time.UTC().Format("2006-01-02T15:04:05.000000000Z07:00") + " ")
	}
	if l.details {
		line.WriteString(l.context(m) + " ")
	}
	line.Write(m.Data)
	if l.raw {
		_, err := io.WriteString(w, line.String())
		return err
	}
	const headerSize = 8
	var header [headerSize]byte
	header[0] = 1
	if m.Stderr {
		header[0] = 2
	}
	binary.BigEndian.PutUint32(header[4:], uint32(line.Len())) // #nosec G115 -- log lines are far shorter
	_, err := w.Write(append(header[:], line.String()...))
	return err
}

// context is the attributes by which the CLI names a line's task.
func (l *logLine) context(m shoal.LogLine) string {
	attrs := maps.Clone(m.Attrs)
	if attrs == nil {
		attrs = map[string]string{}
	}
	if t := l.from.store.View().Task(m.TaskID); t != nil {
		attrs["com.docker.swarm.service.id"] = t.ServiceID
	}
	attrs["com.docker.swarm.node.id"] = m.NodeID
	attrs["com.docker.swarm.task.id"] = m.TaskID
	var pairs []string
	for _, key := range slices.Sorted(maps.Keys(attrs)) {
		pairs = append(pairs, url.QueryEscape(key)+"="+url.QueryEscape(attrs[key]))
	}
	return strings.Join(pairs, ",")
}
