package cluster

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/shoal-dev/shoal/internal/api/server"
	"github.com/shoal-dev/shoal/internal/rpc"
	"github.com/shoal-dev/shoal/internal/shoal"
	"github.com/shoal-dev/shoal/internal/store"
	"github.com/shoal-dev/shoal/internal/store/storetest"
)

// faultyTunnel panics when something is sent.
type faultyTunnel struct{ net.Conn }

func (t faultyTunnel) Write([]byte) (int, error)             { panic("no frame") }
func (t faultyTunnel) Relay(client io.ReadWriteCloser) error { return rpc.Relay(client, t) }

// Only a handler's own goroutine was guarded: a fault in one that it had started ended the daemon.
func TestAFaultInAHandlersGoroutineEndsItsRequestOnly(t *testing.T) {
	var log bytes.Buffer
	f := &Forwarder{cfg: ForwarderConfig{
		Log: slog.New(slog.NewTextHandler(&log, nil)),
		Dial: func(context.Context, shoal.NodeID) (Tunnel, error) {
			near, far := net.Pipe()
			t.Cleanup(func() { _ = far.Close() })
			return faultyTunnel{near}, nil
		},
	}}
	w := httptest.NewRecorder()
	server.Recover(f.cfg.Log, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if err := f.roundTrip(w, r, "n"); err != nil {
			server.WriteError(w, http.StatusInternalServerError, err.Error())
		}
	})).ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/containers/c/json", http.NoBody))
	if w.Code != http.StatusInternalServerError || !strings.Contains(w.Body.String(), "no frame") || strings.Contains(w.Body.String(), "fault_test.go") {
		t.Errorf("%d %s", w.Code, w.Body)
	}
	if !strings.Contains(log.String(), "fault_test.go") {
		t.Errorf("the log has no stack:\n%s", log.String())
	}
}

func TestAFaultOfALogSourceEndsItsRequestOnly(t *testing.T) {
	db := storetest.Open(t, store.NewMemory())
	for _, o := range []store.Object{&shoal.Service{ID: "s", Spec: shoal.ServiceSpec{Name: "s"}}, &shoal.Task{ID: "a", ServiceID: "s", NodeID: "n",
		Status: shoal.TaskStatus{State: shoal.TaskRunning, Container: &shoal.ContainerStatus{ContainerID: "c"}}}} {
		if _, err := db.Commit(t.Context(), store.Changes{Puts: []store.Object{o}}); err != nil {
			t.Fatal(err)
		}
	}
	source := func(context.Context, shoal.LogQuery, func(shoal.LogLine) error) error { panic("no line") }
	f := newLogFollower(source, logSelection{store: db, service: "s"}, shoal.LogQuery{Follow: true}, func(shoal.LogLine) error { return nil })
	if err := f.run(t.Context()); err == nil || !strings.Contains(err.Error(), "no line") {
		t.Errorf("it ends with %v", err)
	}
}
