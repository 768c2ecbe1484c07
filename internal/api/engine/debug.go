package engine

import (
	"net/http"
	"net/http/pprof" // #nosec G108 -- its handlers are served here and nowhere else

	"github.com/shoal-dev/shoal/internal/api/server"
)

// debugPages serves Go's profiles of the daemon while it is in debug mode, as dockerd does: `go tool pprof` reads them.
type debugPages struct{ settings func() Settings }

func (d *debugPages) Register(rt *server.Router) {
	for path, handler := range map[string]http.HandlerFunc{
		"": pprof.Index, "/{profile}": pprof.Index, "/cmdline": pprof.Cmdline, "/profile": pprof.Profile, "/symbol": pprof.Symbol, "/trace": pprof.Trace,
	} {
		rt.Handle("GET /debug/pprof"+path, d.only(handler))
	}
}

// only serves a page in debug mode only.
func (d *debugPages) only(page http.HandlerFunc) server.Handler {
	return func(w http.ResponseWriter, r *http.Request) error {
		if !d.settings().Debug {
			return server.Errorf(http.StatusNotFound, "page not found")
		}
		page(w, r)
		return nil
	}
}
