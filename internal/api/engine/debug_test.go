package engine

import (
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/shoal-dev/shoal/internal/api/server"
)

func TestProfilesAreServedInDebugModeOnly(t *testing.T) {
	debug := false
	h := server.New(slog.New(slog.DiscardHandler), &debugPages{func() Settings { return Settings{Debug: debug} }})
	get := func(path string) *httptest.ResponseRecorder {
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequest(http.MethodGet, path, http.NoBody))
		return w
	}
	if w := get("/debug/pprof/heap?debug=1"); w.Code != http.StatusNotFound {
		t.Errorf("without debug mode: %d", w.Code)
	}
	debug = true
	for path, want := range map[string]string{"/debug/pprof/": "heap", "/v1.40/debug/pprof/heap?gc=1&debug=1": "# HeapAlloc = ", "/debug/pprof/cmdline": "test"} {
		if w := get(path); w.Code != http.StatusOK || !strings.Contains(w.Body.String(), want) {
			t.Errorf("%s: %d, %d bytes without %q", path, w.Code, w.Body.Len(), want)
		}
	}
}
