package api

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"regexp"
	"strings"
	"sync"

	"github.com/containerd/errdefs"
	apicontainer "github.com/moby/moby/api/types/container"

	"github.com/shoal-dev/shoal/internal/container"
	"github.com/shoal-dev/shoal/internal/shoal"
	"github.com/shoal-dev/shoal/internal/store"
)

// Tunnel is a connection to the API of another node.
type Tunnel interface {
	io.ReadWriteCloser
	// Relay joins a client to it until the node has nothing more to say, and closes both.
	Relay(client io.ReadWriteCloser) error
}

// remote passes requests for a container of another node on to that node: on a manager, a task's container can be named wherever
// it runs. What is known here, is served here.
type remote struct {
	log    *slog.Logger
	engine *container.Engine
	store  func() (*store.Store, error)
	reach  func(ctx context.Context, node shoal.ID) (Tunnel, error)
	next   http.Handler

	mu    sync.Mutex // guards execs
	execs map[string]shoal.ID
}

// passedOn marks a request that another node has passed on: it goes no further.
const passedOn = "Shoal-Forwarded"

// about finds what a request is about.
var about = regexp.MustCompile(`^(?:/v\d+\.\d+)?/(containers|exec)/([^/]+)(/.+)?$`)

// ServeHTTP implements http.Handler.
func (m *remote) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	parts := about.FindStringSubmatch(r.URL.Path)
	if parts == nil || r.Header.Get(passedOn) != "" {
		m.next.ServeHTTP(w, r)
		return
	}
	node := m.nodeOf(parts[1], parts[2])
	if node == "" {
		m.next.ServeHTTP(w, r)
		return
	}
	var err error
	switch {
	case strings.EqualFold(r.Header.Get("Upgrade"), "tcp"):
		err = m.upgrade(w, r, node)
	case parts[1] == "containers" && parts[3] == "/exec":
		err = m.execCreate(w, r, node)
	default:
		err = m.roundTrip(w, r, node)
	}
	if err != nil {
		writeError(w, statusOf(err), err.Error())
	}
}

// nodeOf is the other node that a container or exec is on; empty if there is none.
func (m *remote) nodeOf(kind, ref string) shoal.ID {
	if kind == "exec" {
		m.mu.Lock()
		defer m.mu.Unlock()
		return m.execs[ref]
	}
	if _, err := m.engine.Inspect(ref); !errdefs.IsNotFound(err) {
		return ""
	}
	db, err := m.store()
	if err != nil {
		return "" // no manager
	}
	return nodeOfContainer(db.View(), ref)
}

// minPrefix is how much of a container's ID is needed to name one of another node.
const minPrefix = 8

func nodeOfContainer(v store.View, ref string) shoal.ID {
	ref = strings.TrimPrefix(ref, "/")
	for _, t := range v.Tasks() {
		c := t.Status.Container
		if c == nil || t.NodeID == "" || c.ContainerID == "" {
			continue
		}
		if t.ServiceID != "" && t.Name() == ref || len(ref) >= minPrefix && strings.HasPrefix(c.ContainerID, ref) {
			return t.NodeID
		}
	}
	return ""
}

// outgoing is the request as it is sent on.
func outgoing(r *http.Request) *http.Request {
	out := r.Clone(r.Context())
	out.RequestURI = ""
	out.Host = "shoal"
	out.Header.Set(passedOn, "1")
	return out
}

// roundTrip passes a request on and its answer back, which may go on for long.
func (m *remote) roundTrip(w http.ResponseWriter, r *http.Request, node shoal.ID) error {
	resp, end, err := m.ask(r, node)
	if err != nil {
		return err
	}
	defer end()
	maps.Copy(w.Header(), resp.Header)
	w.WriteHeader(resp.StatusCode)
	_, err = io.Copy(flushing{w}, resp.Body)
	if err != nil && r.Context().Err() == nil {
		m.log.Debug("an answer of another node ended early", "node", node, "err", err)
	}
	return nil
}

// ask sends a request to a node. end lets go of the answer.
func (m *remote) ask(r *http.Request, node shoal.ID) (resp *http.Response, end func(), err error) {
	far, err := m.reach(r.Context(), node)
	if err != nil {
		return nil, nil, err
	}
	stop := context.AfterFunc(r.Context(), func() { _ = far.Close() })
	end = func() {
		stop()
		_ = far.Close()
	}
	out := outgoing(r)
	out.Close = true
	sent := make(chan error, 1)
	go func() { sent <- out.Write(far) }()
	resp, err = http.ReadResponse(bufio.NewReader(far), out)
	if err != nil {
		end()
		return nil, nil, errors.Join(fmt.Errorf("ask node %s: %w", node, err), <-sent)
	}
	return resp, end, nil
}

// execCreate remembers where the new exec is.
func (m *remote) execCreate(w http.ResponseWriter, r *http.Request, node shoal.ID) error {
	resp, end, err := m.ask(r, node)
	if err != nil {
		return err
	}
	defer end()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxBody))
	if err != nil {
		return fmt.Errorf("ask node %s: %w", node, err)
	}
	var made apicontainer.ExecCreateResponse
	if resp.StatusCode == http.StatusCreated && json.Unmarshal(body, &made) == nil {
		m.remember(made.ID, node)
	}
	w.Header().Set("Content-Type", resp.Header.Get("Content-Type"))
	w.WriteHeader(resp.StatusCode)
	_, err = w.Write(body)
	return err
}

// maxExecs bounds how many execs of other nodes are remembered; those forgotten are no longer found.
const maxExecs = 10_000

func (m *remote) remember(exec string, node shoal.ID) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.execs) >= maxExecs {
		clear(m.execs)
	}
	m.execs[exec] = node
}

// upgrade passes a connection on that leaves HTTP, as those of attach and exec do: from the request on, bytes are bytes.
func (m *remote) upgrade(w http.ResponseWriter, r *http.Request, node shoal.ID) error {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	if err != nil {
		return fail(http.StatusBadRequest, "read request: %v", err)
	}
	out := outgoing(r)
	out.Body, out.ContentLength, out.TransferEncoding = io.NopCloser(bytes.NewReader(body)), int64(len(body)), nil
	far, err := m.reach(context.WithoutCancel(r.Context()), node) // the context of a connection that was taken over ends at once
	if err != nil {
		return err
	}
	if err := out.Write(far); err != nil {
		_ = far.Close()
		return fmt.Errorf("ask node %s: %w", node, err)
	}
	conn, buf, err := http.NewResponseController(w).Hijack()
	if err != nil {
		_ = far.Close()
		return fmt.Errorf("take over connection: %w", err)
	}
	if err := far.Relay(&hijacked{Conn: conn, in: buf.Reader}); err != nil {
		m.log.Debug("a connection to another node ended early", "node", node, "err", err)
	}
	return nil
}
