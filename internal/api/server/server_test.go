package server

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/pkg/stdcopy"

	"github.com/shoal-dev/shoal/internal/api/version"
)

// failing is a resource whose only endpoint fails.
type failing struct{ err error }

func (f failing) Register(rt *Router) {
	rt.Handle("GET /fails", func(http.ResponseWriter, *http.Request) error { return f.err })
}

func get(h http.Handler, path string) *httptest.ResponseRecorder {
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest(http.MethodGet, path, http.NoBody))
	return w
}

func TestErrorsBecomeDockersStatuses(t *testing.T) {
	for _, c := range []struct {
		err    error
		status int
		body   string
	}{
		{Errorf(http.StatusTeapot, "no %s", "coffee"), 418, `{"message":"no coffee"}`},
		{BadRequest("<%d>", 1), 400, `{"message":"<1>"}`},
		{fmt.Errorf("ask: %w", errdefs.ErrNotFound.WithMessage("no such thing")), 404, `{"message":"ask: no such thing"}`},
		{errdefs.ErrFailedPrecondition.WithMessage("not now"), 400, `{"message":"not now"}`},
		{errdefs.ErrAlreadyExists.WithMessage("again"), 409, `{"message":"again"}`},
		{errdefs.ErrNotModified, 304, ""},
		{errors.New("disk full"), 500, `{"message":"disk full"}`},
	} {
		w := get(New(slog.New(slog.DiscardHandler), failing{c.err}), "/v1.44/fails")
		if body := strings.TrimSpace(w.Body.String()); w.Code != c.status || body != c.body {
			t.Errorf("%v: %d %s, want %d %s", c.err, w.Code, body, c.status, c.body)
		}
	}
}

func TestVersions(t *testing.T) {
	h := New(slog.New(slog.DiscardHandler), failing{Errorf(http.StatusTeapot, "served")})
	for path, want := range map[string]struct {
		status int
		text   string
	}{
		"/fails":                        {418, "served"},
		"/v" + version.Max + "/fails":   {418, "served"},
		"/v" + version.Min + "/fails":   {418, "served"},
		"/v1.1/fails":                   {400, "client version 1.1 is too old. Minimum supported API version is " + version.Min},
		"/v9.9/fails":                   {400, "client version 9.9 is too new. Maximum supported API version is " + version.Max},
		"/v" + version.Max + "/nothing": {404, "page not found"},
	} {
		w := get(h, path)
		if w.Code != want.status || !strings.Contains(w.Body.String(), want.text) || w.Header().Get("Api-Version") != version.Max {
			t.Errorf("%s: %d %s", path, w.Code, w.Body)
		}
	}
}

func TestFilters(t *testing.T) {
	read := func(text string) (Filters, error) {
		return ReadFilters(httptest.NewRequest(http.MethodGet, "/?filters="+url.QueryEscape(text), http.NoBody), "name", "label", "label!", "dangling", "until")
	}
	for _, text := range []string{`{"name":{"a":true,"b":false}}`, `{"name":["a"]}`} {
		f, err := read(text)
		if err != nil || !f.Equal("name", "a") || f.Equal("name", "b") || !f.Equal("label", "whatever") || !f.Contains("name", "xax") || !f.Prefix("name", "ab") {
			t.Errorf("%s: %v %v", text, f, err)
		}
	}
	for text, want := range map[string]string{`{"other":["a"]}`: "invalid filter 'other'", `[`: "invalid filter", `{"name":1}`: "invalid filter"} {
		if _, err := read(text); err == nil || err.Error() != want {
			t.Errorf("%s: %v", text, err)
		}
	}
	f, err := read(`{"label":["a","b=1"],"label!":["c"],"dangling":["1"],"until":["10m"]}`)
	if err != nil {
		t.Fatal(err)
	}
	if !f.Labels(map[string]string{"a": "", "b": "1"}) || f.Labels(map[string]string{"a": "", "b": "2"}) || f.Labels(map[string]string{"a": "", "b": "1", "c": ""}) {
		t.Error("labels")
	}
	if !f.True("dangling", true) || f.True("dangling", false) {
		t.Error("dangling")
	}
}

// docker-py sends "False": `swarm leave`, `rm` and rotations of tokens did what nobody had asked for.
func TestBooleansAreReadInAnyCase(t *testing.T) {
	for text, want := range map[string]bool{
		"": false, "0": false, "no": false, "false": false, "False": false, "FALSE": false, "None": false, "%20false": false, "1": true, "True": true, "yes": true,
	} {
		if got := BoolParam(httptest.NewRequest(http.MethodPost, "/?force="+text, http.NoBody), "force"); got != want {
			t.Errorf("%q: %t", text, got)
		}
	}
}

// `image prune --filter label=…` and `network prune --filter until=…` removed all there was, as did a time that could not be read.
func TestPruneTakesNoMoreThanItsFilters(t *testing.T) {
	read := func(text string) (PruneFilters, error) {
		return ReadPruneFilters(httptest.NewRequest(http.MethodPost, "/?filters="+url.QueryEscape(text), http.NoBody), "until")
	}
	old, now := time.Now().Add(-time.Hour), time.Now()
	f, err := read(`{"label":["a"],"label!":["c"],"until":["10m"]}`)
	if err != nil {
		t.Fatal(err)
	}
	with := func(names ...string) map[string]string {
		labels := map[string]string{}
		for _, n := range names {
			labels[n] = ""
		}
		return labels
	}
	if !f.Take(with("a"), old) || f.Take(with("a"), now) || f.Take(with(), old) || f.Take(with("a", "c"), old) {
		t.Error("wrong ones are taken")
	}
	if f, err := read(""); err != nil || !f.Take(nil, now) {
		t.Errorf("without filters: %v", err)
	}
	for text, want := range map[string]string{
		`{"until":["soon"]}`: `invalid time "soon"`, `{"until":["1h","2h"]}`: "more than one until filter specified", `{"all":["1"]}`: "invalid filter 'all'",
	} {
		if _, err := read(text); err == nil || err.Error() != want || Status(err) != 400 {
			t.Errorf("%s: %v", text, err)
		}
	}
}

func TestTimes(t *testing.T) {
	now := time.Unix(1000, 0)
	day := time.Date(2024, 2, 3, 0, 0, 0, 0, time.UTC)
	for text, want := range map[string]time.Time{
		"": {}, "0": {}, "12": time.Unix(12, 0), "12.5": time.Unix(12, 500_000_000), "12.000000001": time.Unix(12, 1),
		"2024-02-03T00:00:00Z": day, "2024-02-03T00:00:00": day, "2024-02-03T00:00": day, "2024-02-03": day, "10s": time.Unix(990, 0),
	} {
		if got, err := ParseTimeOrAge(text, now); err != nil || !got.Equal(want) {
			t.Errorf("%q: %v %v", text, got, err)
		}
	}
	for _, text := range []string{"10s", "2024-02-03", "1.x", "now"} {
		if got, err := ParseTimestamp(text); err == nil || err.Error() != fmt.Sprintf("invalid time %q", text) || Status(err) != 400 {
			t.Errorf("%q: %v %v", text, got, err)
		}
	}
}

func TestMultiplexedStreamsAreReadBack(t *testing.T) {
	var conn, stdout, stderr bytes.Buffer
	out, errOut := Multiplex(&conn)
	for i := range 3 {
		fmt.Fprintf(out, "out %d\n", i)
		fmt.Fprintf(errOut, "err %d\n", i)
	}
	if _, err := stdcopy.StdCopy(&stdout, &stderr, &conn); err != nil {
		t.Fatal(err)
	}
	if stdout.String() != "out 0\nout 1\nout 2\n" || stderr.String() != "err 0\nerr 1\nerr 2\n" {
		t.Errorf("%q %q", &stdout, &stderr)
	}
}

func TestDetachKeysEndTheInput(t *testing.T) {
	for keys, typed := range map[string]string{"": "ab\x10c\x10\x11rest", "ctrl-a,x": "ab\x10c\x01xrest", "q": "ab\x10cqrest"} {
		sequence, err := ParseDetachKeys(keys)
		if err != nil {
			t.Fatal(err)
		}
		detached := false
		got, err := io.ReadAll(NewDetachReader(strings.NewReader(typed), sequence, func() { detached = true }))
		if string(got) != "ab\x10c" || err == nil || !detached {
			t.Errorf("%q: %q, %v, detached %v", keys, got, err, detached)
		}
	}
	if _, err := ParseDetachKeys("ctrl-aa"); err == nil || err.Error() != "Unknown character: 'ctrl-aa'" || Status(err) != 400 {
		t.Error(err)
	}
}
