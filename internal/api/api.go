// Package api serves the Docker Engine API: it turns requests into calls of the rooms and specs in the store, and what the
// rooms know into Docker's JSON. It is the only room that knows moby's types. It writes specs; it never writes status.
package api

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"regexp"

	"github.com/containerd/errdefs"
	"github.com/containerd/errdefs/pkg/errhttp"
)

const (
	// Version is the newest API version that is spoken.
	Version = "1.51"
	// MinVersion is the oldest one.
	MinVersion = "1.40"
)

// handler is an http.HandlerFunc that may fail; ServeHTTP turns the error into Docker's JSON and status.
type handler func(w http.ResponseWriter, r *http.Request) error

// versionPrefix is the optional API version that every path may start with.
var versionPrefix = regexp.MustCompile(`^/v(\d+\.\d+)(/.*)$`)

// router finds the handler of a request.
type router struct {
	log *slog.Logger
	mux *http.ServeMux
}

func newRouter(log *slog.Logger) *router {
	return &router{log: log, mux: http.NewServeMux()}
}

// handle registers h under a pattern such as "GET /containers/{id}/json".
func (rt *router) handle(pattern string, h handler) {
	rt.mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
		if err := h(w, r); err != nil {
			rt.fail(w, r, err)
		}
	})
}

func (rt *router) fail(w http.ResponseWriter, r *http.Request, err error) {
	status := statusOf(err)
	if r.Context().Err() == nil && status == http.StatusInternalServerError {
		rt.log.Error("request failed", "method", r.Method, "path", r.URL.Path, "err", err)
	}
	writeError(w, status, err.Error())
}

// statusOf maps the kind of an error to Docker's HTTP status.
func statusOf(err error) int {
	var withStatus *statusError
	switch {
	case errors.As(err, &withStatus):
		return withStatus.status
	case errdefs.IsNotFound(err):
		return http.StatusNotFound
	case errdefs.IsInvalidArgument(err), errdefs.IsFailedPrecondition(err):
		return http.StatusBadRequest
	case errdefs.IsConflict(err), errdefs.IsAlreadyExists(err):
		return http.StatusConflict
	case errdefs.IsUnavailable(err):
		return http.StatusServiceUnavailable
	case errdefs.IsPermissionDenied(err):
		return http.StatusForbidden
	case errdefs.IsNotImplemented(err):
		return http.StatusNotImplemented
	case errdefs.IsNotModified(err):
		return http.StatusNotModified
	default:
		return errhttp.ToHTTP(err)
	}
}

// statusError is an error with a status of its own, where Docker's status does not follow from the kind.
type statusError struct {
	status int
	text   string
}

func (e *statusError) Error() string { return e.text }

func fail(status int, format string, args ...any) error {
	return &statusError{status, fmt.Sprintf(format, args...)}
}

func writeError(w http.ResponseWriter, status int, message string) {
	if status == http.StatusNotModified {
		w.WriteHeader(status)
		return
	}
	_ = writeJSON(w, status, map[string]string{"message": message})
}

func writeJSON(w http.ResponseWriter, status int, body any) error {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	return enc.Encode(body)
}

// maxBody bounds what a JSON request body may be; image archives and the like are read as streams instead.
const maxBody = 4 << 20

// readJSON decodes the request's body into what v points to. An empty body leaves v alone.
func readJSON(r *http.Request, v any) error {
	dec := json.NewDecoder(http.MaxBytesReader(nil, r.Body, maxBody))
	if err := dec.Decode(v); err != nil {
		if errors.Is(err, io.EOF) {
			return nil
		}
		return fail(http.StatusBadRequest, "invalid JSON: %v", err)
	}
	return nil
}

// flag reads a boolean query parameter as Docker does: anything but these is true.
func flag(r *http.Request, name string) bool {
	switch r.FormValue(name) {
	case "", "0", "no", "false", "none":
		return false
	default:
		return true
	}
}
