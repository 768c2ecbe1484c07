package engine

import (
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/shoal-dev/shoal/internal/api/server"
)

// GET /plugins was 404: `docker plugin ls` failed, and with it every test suite that asks what the daemon has.
func TestPluginsAreAnEmptyList(t *testing.T) {
	handler := server.New(slog.New(slog.DiscardHandler), plugins{})
	for _, c := range []struct {
		method, path string
		status       int
		body         string
	}{
		{"GET", "/v1.51/plugins", 200, "[]"},
		{"GET", "/plugins?filters=%7B%22enabled%22%3A%7B%22true%22%3Atrue%7D%2C%22capability%22%3A%7B%22volumedriver%22%3Atrue%7D%7D", 200, "[]"},
		{"GET", "/plugins?filters=%7B%22name%22%3A%7B%22x%22%3Atrue%7D%7D", 400, "invalid filter 'name'"},
		{"GET", "/plugins?filters=%7B%22enabled%22%3A%7B%22x%22%3Atrue%7D%7D", 400, "invalid filter 'enabled=[x]'"},
		{"GET", "/plugins/vieux/sshfs:latest/json", 404, `plugin \"vieux/sshfs:latest\" not found`},
		{"POST", "/plugins/x/enable", 404, `plugin \"x\" not found`},
		{"POST", "/plugins/x/disable", 404, `plugin \"x\" not found`},
		{"POST", "/plugins/x/push", 404, `plugin \"x\" not found`},
		{"POST", "/plugins/vieux/sshfs/upgrade?remote=a", 404, `plugin \"vieux/sshfs\" not found`},
		{"POST", "/plugins/x/set", 404, `plugin \"x\" not found`},
		{"DELETE", "/plugins/vieux/sshfs", 404, `plugin \"vieux/sshfs\" not found`},
		{"POST", "/plugins/x/paint", 404, "page not found"},
		{"GET", "/plugins/privileges?remote=vieux/sshfs", 501, "managed plugins are not supported"},
		{"POST", "/plugins/pull?remote=vieux/sshfs", 501, "managed plugins are not supported"},
		{"POST", "/plugins/create?name=x", 501, "managed plugins are not supported"},
	} {
		w := httptest.NewRecorder()
		handler.ServeHTTP(w, httptest.NewRequest(c.method, c.path, http.NoBody))
		if w.Code != c.status || !strings.Contains(w.Body.String(), c.body) {
			t.Errorf("%s %s: %d %s, want %d %s", c.method, c.path, w.Code, w.Body, c.status, c.body)
		}
	}
}
