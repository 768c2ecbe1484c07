package cluster

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

	apicontainer "github.com/moby/moby/api/types/container"

	"github.com/shoal-dev/shoal/internal/api/server"
	"github.com/shoal-dev/shoal/internal/fault"
	"github.com/shoal-dev/shoal/internal/shoal"
	"github.com/shoal-dev/shoal/internal/store"
)

// Tunnel is a connection to the API of another node.
type Tunnel interface {
	io.ReadWriteCloser
	// Relay copies between a client and the tunnel until the node closes its side, and closes both.
	Relay(client io.ReadWriteCloser) error
}

// ForwarderConfig is what a Forwarder needs; every field is required.
type ForwarderConfig struct {
	Log   *slog.Logger
	State StateSource
	// IsLocal tells whether this node has a container of that name or ID, or of more than one whose IDs begin so.
	IsLocal func(container string) bool
	// Dial connects to the API of another node of the cluster.
	Dial func(ctx context.Context, node shoal.NodeID) (Tunnel, error)
}

// Forwarder forwards requests for a container that runs on another node to the API of that node, so that a manager can be asked
// for a task's container wherever it runs. Containers of this node are served here.
type Forwarder struct {
	cfg ForwarderConfig

	mu    sync.Mutex // guards execs
	execs map[string]shoal.NodeID
}

// NewForwarder returns a forwarder that knows of no execs yet.
func NewForwarder(c ForwarderConfig) *Forwarder {
	return &Forwarder{cfg: c, execs: map[string]shoal.NodeID{}}
}

// forwardedHeader marks a request that another node has forwarded. It is not forwarded again, so that two nodes that disagree
// about where a container runs cannot send it to and fro.
const forwardedHeader = "Shoal-Forwarded"

// containerPath matches the paths of requests for a container or an exec: its kind, its name or ID, and the rest.
var containerPath = regexp.MustCompile(`^/(containers|exec)/([^/]+)(/.+)?$`)

// Handler forwards requests for containers of other nodes, and leaves all others to next.
func (f *Forwarder) Handler(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, path := server.SplitVersion(r.URL.Path)
		parts := containerPath.FindStringSubmatch(path)
		if parts == nil || r.Header.Get(forwardedHeader) != "" {
			next.ServeHTTP(w, r)
			return
		}
		kind, ref, rest := parts[1], parts[2], parts[3]
		node := f.nodeOf(kind, ref)
		if node == "" {
			next.ServeHTTP(w, r)
			return
		}
		if err := f.forward(w, r, node, kind == "containers" && rest == "/exec"); err != nil {
			server.WriteError(w, server.Status(err), err.Error())
		}
	})
}

func (f *Forwarder) forward(w http.ResponseWriter, r *http.Request, node shoal.NodeID, createsExec bool) error {
	switch {
	case strings.EqualFold(r.Header.Get("Upgrade"), "tcp"):
		return f.upgrade(w, r, node)
	case createsExec:
		return f.execCreate(w, r, node)
	default:
		return f.roundTrip(w, r, node)
	}
}

// nodeOf is the other node that a container or exec is on. It is empty if this node is to serve the request.
func (f *Forwarder) nodeOf(kind, ref string) shoal.NodeID {
	if kind == "exec" {
		f.mu.Lock()
		defer f.mu.Unlock()
		return f.execs[ref]
	}
	if f.cfg.IsLocal(ref) {
		return ""
	}
	db, err := f.cfg.State.Store()
	if err != nil {
		return "" // only managers know other nodes' containers
	}
	return nodeOfContainer(db.View(), ref)
}

// minIDPrefix is how many digits of its ID are needed to name a container of another node.
const minIDPrefix = 8

// nodeOfContainer is the node of the task whose container is named, by the name of a service's task or by the ID; empty if there is
// none.
func nodeOfContainer(v store.View, ref string) shoal.NodeID {
	ref = strings.TrimPrefix(ref, "/")
	for _, t := range v.Tasks() {
		c := t.Status.Container
		if c == nil || t.NodeID == "" || c.ContainerID == "" {
			continue
		}
		if t.ServiceID != "" && t.Name() == ref || len(ref) >= minIDPrefix && strings.HasPrefix(c.ContainerID, ref) {
			return t.NodeID
		}
	}
	return ""
}

// outgoing is the request as it is sent to another node.
func outgoing(r *http.Request) *http.Request {
	out := r.Clone(r.Context())
	out.RequestURI = ""
	out.Host = "shoal"
	out.Header.Set(forwardedHeader, "1")
	return out
}

// roundTrip forwards a request and copies its answer, piece by piece as it comes: logs and statistics go on for long.
func (f *Forwarder) roundTrip(w http.ResponseWriter, r *http.Request, node shoal.NodeID) error {
	resp, release, err := f.ask(r, node)
	if err != nil {
		return err
	}
	defer release()
	maps.Copy(w.Header(), resp.Header)
	w.WriteHeader(resp.StatusCode)
	_, err = io.Copy(server.NewFlushWriter(w), resp.Body)
	if err != nil && r.Context().Err() == nil {
		f.cfg.Log.Debug("answer of another node ended early; the client has only a part of it", "node", node, "err", err)
	}
	return nil
}

// ask sends a request to a node. Without an error, release must be called when the answer has been read.
func (f *Forwarder) ask(r *http.Request, node shoal.NodeID) (resp *http.Response, release func(), err error) {
	tunnel, err := f.cfg.Dial(r.Context(), node)
	if err != nil {
		return nil, nil, err
	}
	stop := context.AfterFunc(r.Context(), func() { _ = tunnel.Close() })
	release = func() {
		stop()
		_ = tunnel.Close()
	}
	out := outgoing(r)
	out.Close = true
	sent := make(chan error, 1)
	go func() {
		err := fault.Contain(f.cfg.Log, "request to another node", func() error { return out.Write(tunnel) })
		if _, ok := errors.AsType[*fault.Error](err); ok {
			_ = tunnel.Close() // there will be no answer
		}
		sent <- err
	}()
	resp, err = http.ReadResponse(bufio.NewReader(tunnel), out)
	if err != nil {
		release()
		return nil, nil, errors.Join(fmt.Errorf("ask node %s: %w", node, err), <-sent)
	}
	return resp, release, nil
}

// execCreate forwards the creation of an exec and remembers its node, to which requests for the exec have to go.
func (f *Forwarder) execCreate(w http.ResponseWriter, r *http.Request, node shoal.NodeID) error {
	resp, release, err := f.ask(r, node)
	if err != nil {
		return err
	}
	defer release()
	body, err := io.ReadAll(io.LimitReader(resp.Body, server.MaxBodySize))
	if err != nil {
		return fmt.Errorf("ask node %s: %w", node, err)
	}
	var created apicontainer.ExecCreateResponse
	if resp.StatusCode == http.StatusCreated && json.Unmarshal(body, &created) == nil {
		f.remember(created.ID, node)
	}
	w.Header().Set("Content-Type", resp.Header.Get("Content-Type"))
	w.WriteHeader(resp.StatusCode)
	_, err = w.Write(body)
	return err
}

// maxExecs bounds how many execs of other nodes are remembered. When there are more, all are forgotten and can no longer be found.
const maxExecs = 10_000

func (f *Forwarder) remember(exec string, node shoal.NodeID) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.execs) >= maxExecs {
		clear(f.execs)
	}
	f.execs[exec] = node
}

// upgrade forwards a request after which the connection is no longer HTTP, as those of attach and exec: from then on it only copies
// bytes in both directions.
func (f *Forwarder) upgrade(w http.ResponseWriter, r *http.Request, node shoal.NodeID) error {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, server.MaxBodySize))
	if err != nil {
		return server.BadRequest("read request: %v", err)
	}
	out := outgoing(r)
	out.Body, out.ContentLength, out.TransferEncoding = io.NopCloser(bytes.NewReader(body)), int64(len(body)), nil
	// The context of a request ends when its connection is taken over.
	tunnel, err := f.cfg.Dial(context.WithoutCancel(r.Context()), node)
	if err != nil {
		return err
	}
	if err := out.Write(tunnel); err != nil {
		_ = tunnel.Close()
		return fmt.Errorf("ask node %s: %w", node, err)
	}
	conn, err := server.Hijack(w)
	if err != nil {
		_ = tunnel.Close()
		return err
	}
	if err := tunnel.Relay(conn); err != nil {
		f.cfg.Log.Debug("connection to another node ended early; the client may not have seen all", "node", node, "err", err)
	}
	return nil
}
