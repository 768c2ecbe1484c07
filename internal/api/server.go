package api

import (
	"log/slog"
	"net/http"

	"github.com/moby/moby/client/pkg/versions"
)

// Resource is a group of endpoints.
type resource interface{ register(*router) }

// newHandler serves the resources under every API version that is spoken.
func newHandler(log *slog.Logger, resources ...resource) http.Handler {
	rt := newRouter(log)
	for _, r := range resources {
		r.register(rt)
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Api-Version", Version)
		h.Set("Ostype", "linux")
		h.Set("Server", "Docker/shoal (linux)")
		path := r.URL.Path
		if m := versionPrefix.FindStringSubmatch(path); m != nil {
			if err := speaks(m[1]); err != nil {
				rt.fail(w, r, err)
				return
			}
			path = m[2]
		}
		r2 := r.Clone(r.Context())
		r2.URL.Path, r2.URL.RawPath = path, ""
		log.Debug("request", "method", r.Method, "path", r.URL.Path)
		if _, pattern := rt.mux.Handler(r2); pattern == "" {
			writeError(w, http.StatusNotFound, "page not found")
			return
		}
		rt.mux.ServeHTTP(w, r2)
	})
}

// speaks refuses versions that are too old or not known yet.
func speaks(version string) error {
	switch {
	case versions.LessThan(version, MinVersion):
		return fail(http.StatusBadRequest, "client version %s is too old. Minimum supported API version is %s, please upgrade your client to a newer version", version, MinVersion)
	case versions.GreaterThan(version, Version):
		return fail(http.StatusBadRequest, "client version %s is too new. Maximum supported API version is %s", version, Version)
	}
	return nil
}
