package server

import (
	"bufio"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"runtime/debug"
)

// Recover serves with h. A handler's panic, which is a fault of ours, ends its request only: the log has the stack, and the client gets status 500 as long
// as nothing else was sent, or its connection is closed.
func Recover(log *slog.Logger, h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		answer := &answer{ResponseWriter: w}
		defer func() {
			fault := recover()
			if fault == nil {
				return
			}
			if fault == http.ErrAbortHandler { //nolint:errorlint // the very value, as net/http compares it
				panic(fault)
			}
			log.Error("a request met a fault of the daemon and was given up; please report it", "method", r.Method, "path", r.URL.Path, "panic", fault, "stack", string(debug.Stack()))
			switch {
			case answer.conn != nil:
				_ = answer.conn.Close()
			case answer.begun:
				panic(http.ErrAbortHandler) // the client must not take what it has for the whole answer
			default:
				WriteError(w, http.StatusInternalServerError, fmt.Sprintf("the daemon met a fault of its own: %v", fault))
			}
		}()
		h.ServeHTTP(answer, r)
	})
}

// answer notes what has become of the client's connection.
type answer struct {
	http.ResponseWriter
	begun bool     // something was sent
	conn  net.Conn // the connection, once it has left HTTP
}

// Unwrap lets http.ResponseController find what the writer can do.
func (a *answer) Unwrap() http.ResponseWriter { return a.ResponseWriter }

// Hijack implements http.Hijacker.
func (a *answer) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	conn, buf, err := http.NewResponseController(a.ResponseWriter).Hijack()
	a.conn = conn
	return conn, buf, err
}

// WriteHeader implements http.ResponseWriter.
func (a *answer) WriteHeader(status int) {
	a.begun = a.begun || status >= http.StatusOK
	a.ResponseWriter.WriteHeader(status)
}

// Write implements http.ResponseWriter.
func (a *answer) Write(p []byte) (int, error) {
	a.begun = true
	return a.ResponseWriter.Write(p)
}
