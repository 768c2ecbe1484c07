package server

import (
	"log/slog"
	"net/http"
)

// Handler is an http.HandlerFunc that may fail. As long as it has written nothing, the error it returns becomes Docker's JSON
// and status.
type Handler func(w http.ResponseWriter, r *http.Request) error

// Router finds the handler of a request, by the path without its API version. It is an http.Handler.
type Router struct {
	log *slog.Logger
	mux *http.ServeMux
}

// NewRouter returns a router without routes.
func NewRouter(log *slog.Logger) *Router {
	return &Router{log: log, mux: http.NewServeMux()}
}

// Handle registers h under a pattern of http.ServeMux, such as "GET /containers/{id}/json".
func (rt *Router) Handle(pattern string, h Handler) {
	rt.mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
		if err := h(w, r); err != nil {
			rt.fail(w, r, err)
		}
	})
}

// ServeHTTP serves a request whose path names no API version.
func (rt *Router) ServeHTTP(w http.ResponseWriter, r *http.Request) { rt.mux.ServeHTTP(w, r) }

func (rt *Router) fail(w http.ResponseWriter, r *http.Request, err error) {
	status := Status(err)
	if r.Context().Err() == nil && status == http.StatusInternalServerError {
		rt.log.Error("request failed", "method", r.Method, "path", r.URL.Path, "err", err)
	}
	WriteError(w, status, err.Error())
}
