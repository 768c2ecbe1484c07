// Package server is the HTTP side of the Docker Engine API, without any resource of it: it routes requests under every
// API version that is spoken, turns errors into Docker's statuses, and reads and writes what requests and answers are made
// of: JSON, filters, times, multiplexed and hijacked streams. It reads requests and writes answers; it knows nothing of
// containers or clusters.
//
// What an older API version words otherwise is converted by package version, before a resource sees the request and after it has answered.
package server

import (
	"log/slog"
	"net/http"
	"net/url"
	"strings"

	"github.com/shoal-dev/shoal/internal/api/version"
)

// Resource is a group of endpoints, such as those of containers.
type Resource interface {
	// Register adds the endpoints to the router.
	Register(rt *Router)
}

// New serves the resources under every API version that is spoken, and without one.
func New(log *slog.Logger, resources ...Resource) http.Handler {
	rt := NewRouter(log)
	for _, r := range resources {
		r.Register(rt)
	}
	changes := version.NewTable()
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Api-Version", version.Max)
		h.Set("Ostype", "linux")
		h.Set("Server", "Docker/shoal (linux)")
		v, path := SplitVersion(r.URL.Path)
		if v == "" {
			v = version.Max
		}
		if err := checkVersion(v); err != nil {
			rt.fail(w, r, err)
			return
		}
		log.Debug("request", "method", r.Method, "path", r.URL.Path)
		unversioned := r.Clone(version.With(r.Context(), v))
		if path = strings.TrimSuffix(path, "/"); path == "" {
			path = "/"
		}
		unversioned.URL.Path, unversioned.URL.RawPath = path, ""
		_, pattern := rt.mux.Handler(unversioned)
		if joined, ok := joinLink(path); ok && pattern == "" {
			unversioned.URL.RawPath, path = joined, joined
			_, pattern = rt.mux.Handler(unversioned)
		}
		if pattern == "" {
			WriteError(w, http.StatusNotFound, "page not found")
			return
		}
		if c := changes.Conversion(v, r.Method, path); c != nil {
			var err error
			if unversioned, err = convertRequest(unversioned, c); err != nil {
				rt.fail(w, r, err)
				return
			}
			w = convertingWriter{w, c}
		}
		rt.mux.ServeHTTP(w, unversioned)
	})
}

// joinLink makes the name of a link, "web/db", one segment of a path: "/containers/web/db/json" names a container as "/containers/web/json" does.
func joinLink(path string) (escaped string, ok bool) {
	rest, ok := strings.CutPrefix(path, "/containers/")
	parts := strings.SplitN(rest, "/", 3)
	if !ok || len(parts) < 3 {
		return "", false
	}
	return "/containers/" + url.PathEscape(parts[0]+"/"+parts[1]) + "/" + parts[2], true
}
