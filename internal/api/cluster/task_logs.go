package cluster

import (
	"fmt"
	"io"
	"maps"
	"net/http"
	"strconv"
	"strings"

	"github.com/shoal-dev/shoal/internal/api/convert"
	"github.com/shoal-dev/shoal/internal/api/server"
	"github.com/shoal-dev/shoal/internal/shoal"
	"github.com/shoal-dev/shoal/internal/store"
)

// taskLogs serves the logs of services and of single tasks.
type taskLogs struct {
	state  StateSource
	source LogSource
}

func (l *taskLogs) Register(rt *server.Router) {
	rt.Handle("GET /services/{id}/logs", l.serviceLogs)
	rt.Handle("GET /tasks/{id}/logs", l.singleTaskLogs)
}

func (l *taskLogs) serviceLogs(w http.ResponseWriter, r *http.Request) error {
	s, err := l.state.Store()
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

func (l *taskLogs) singleTaskLogs(w http.ResponseWriter, r *http.Request) error {
	s, err := l.state.Store()
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

// logSelection is the tasks whose logs are asked for: those of a service, including tasks that are created later, or a single task. One of the
// two IDs is empty.
type logSelection struct {
	store   *store.Store
	service shoal.ServiceID
	task    shoal.TaskID
}

// tasks is the selected tasks that exist in v.
func (s logSelection) tasks(v store.View) []*shoal.Task {
	if s.task == "" {
		return v.TasksOfService(s.service)
	}
	if t := v.Task(s.task); t != nil {
		return []*shoal.Task{t}
	}
	return nil
}

func (l *taskLogs) serve(w http.ResponseWriter, r *http.Request, from logSelection) error {
	query, err := fromAPILogQuery(r)
	if err != nil {
		return err
	}
	tasks := from.tasks(from.store.View())
	tty := len(tasks) > 0
	for _, t := range tasks {
		query.TaskIDs = append(query.TaskIDs, t.ID)
		tty = tty && t.Spec.Container != nil && t.Spec.Container.TTY
	}
	w.Header().Set("Content-Type", server.StreamType(r, tty))
	w.WriteHeader(http.StatusOK)
	flusher := http.NewResponseController(w)
	_ = flusher.Flush() // a writer that cannot flush sends when it is done
	lines := logWriter{details: server.BoolParam(r, "details"), timestamps: server.BoolParam(r, "timestamps"), from: from}
	lines.stdout, lines.stderr = server.OutputWriters(w, tty)
	write := func(m shoal.LogLine) error {
		if err := lines.write(m); err != nil {
			return err
		}
		return flusher.Flush()
	}
	if query.Follow {
		err = newLogFollower(l.source, from, query, write).run(r.Context())
	} else {
		err = l.source(r.Context(), query, write)
	}
	if err != nil && r.Context().Err() == nil {
		// The status has been sent, so the stream is the only place left to report it.
		_ = lines.write(shoal.LogLine{Stderr: true, Err: err.Error()})
	}
	return nil
}

// fromAPILogQuery reads what a request asks for, other than the tasks.
func fromAPILogQuery(r *http.Request) (shoal.LogQuery, error) {
	query := shoal.LogQuery{
		Follow: server.BoolParam(r, "follow"), Stdout: server.BoolParam(r, "stdout"), Stderr: server.BoolParam(r, "stderr"), Tail: -1,
	}
	if !query.Stdout && !query.Stderr {
		return query, server.BadRequest("Bad parameters: you must choose at least one stream")
	}
	if n, err := strconv.Atoi(r.FormValue("tail")); err == nil && n >= 0 { // "all" and what is no number ask for everything
		query.Tail = n
	}
	var err error
	query.Since, err = server.ParseTimestamp(r.FormValue("since"))
	return query, err
}

// logWriter writes log lines in the form that `docker service logs` reads: "[timestamp ][details ]text".
type logWriter struct {
	stdout, stderr      io.Writer
	details, timestamps bool
	from                logSelection
}

func (l *logWriter) write(m shoal.LogLine) error {
	if m.Err != "" {
		m.Stderr = true
		m.Data = fmt.Appendf(nil, "warning: incomplete log stream. some logs could not be retrieved for the following reasons: %s\n", m.Err)
	}
	var line strings.Builder
	if l.timestamps {
		line.WriteString(m.Time.UTC().Format(server.LogTimeLayout) + " ")
	}
	if l.details {
		line.WriteString(l.detailsOf(m) + " ")
	}
	line.Write(m.Data)
	out := l.stdout
	if m.Stderr {
		out = l.stderr
	}
	_, err := io.WriteString(out, line.String())
	return err
}

// detailsOf is the attributes of a line, by which the CLI names the task that it is from.
func (l *logWriter) detailsOf(m shoal.LogLine) string {
	attrs := maps.Clone(m.Attrs)
	if attrs == nil {
		attrs = map[string]string{}
	}
	if t := l.from.store.View().Task(m.TaskID); t != nil {
		attrs["com.docker.swarm.service.id"] = string(t.ServiceID)
	}
	attrs["com.docker.swarm.node.id"] = string(m.NodeID)
	attrs["com.docker.swarm.task.id"] = string(m.TaskID)
	return convert.LogAttributes(attrs)
}
