package engine

import (
	"archive/tar"
	"bytes"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"
)

// The signal of a restart and times of logs that cannot be read had no effect.
func TestParametersOfContainers(t *testing.T) {
	h := newBusyboxHost(t)
	id, _ := h.make(`{"Image":"busybox","User":"33","Cmd":["sh","-c","trap 'echo got INT; exit 4' INT; trap 'echo got USR1' USR1; echo ready >&2; while :; do sleep 0.1; done"]}`)
	defer h.docker("", "rm", "-f", id)
	at := "/containers/" + id
	ok := func(method, path string) string {
		t.Helper()
		status, text := h.send("1.56", method, at+path, "")
		if status >= http.StatusBadRequest {
			t.Fatalf("%s %s: %d %s", method, path, status, text)
		}
		return text
	}
	said := func(query, want string) {
		t.Helper()
		for deadline := time.Now().Add(20 * time.Second); !strings.Contains(ok(http.MethodGet, "/logs?stdout=1&stderr=1"+query), want); {
			if time.Now().After(deadline) {
				t.Fatalf("%s was not said", want)
			}
		}
	}
	ok(http.MethodPost, "/start")
	said("", "ready")
	ok(http.MethodPost, "/kill?signal=USR1")
	said("", "got USR1")
	ok(http.MethodPost, "/restart?signal=INT&t=60")
	said("", "got INT")
	ok(http.MethodPost, "/stop?signal=INT&t=60")
	_, shown := h.send("1.56", http.MethodGet, at+"/json?size=1", "")
	if field(t, shown, "State.ExitCode") != float64(4) || field(t, shown, "SizeRootFs") == nil {
		t.Errorf("stopped with INT: %s", shown)
	}
	if _, shown := h.send("1.56", http.MethodGet, at+"/json", ""); field(t, shown, "SizeRootFs") != nil {
		t.Error("sizes that nobody has asked for")
	}
	if _, text := h.send("1.56", http.MethodGet, "/containers/json?all=1&size=1", ""); !strings.Contains(text, `"SizeRootFs":`) {
		t.Errorf("list with sizes: %s", text)
	}
	if got := ok(http.MethodGet, "/logs?stdout=1&follow=1&since="+fmt.Sprint(time.Now().Add(time.Hour).Unix())); got != "" {
		t.Errorf("logs of the future: %q", got)
	}
	if got := ok(http.MethodGet, "/logs?stderr=1&until=1"); got != "" {
		t.Errorf("logs of 1970: %q", got)
	}
	for path, want := range map[string]string{
		"/logs?stdout=1&since=x": `invalid value for \"since\"`, "/logs?stdout=1&until=x": `invalid value for \"until\"`, "/logs": "you must choose at least one stream",
		"/start?checkpoint=c": "checkpoints: not supported by this engine", "/wait?condition=x": `invalid condition: \"x\"`, "/stats?one-shot=1": "cannot have stream=true and one-shot=true",
		"/attach?detachKeys=nonsense": "Unknown character: 'nonsense'", "/kill?signal=NOPE": "invalid signal: NOPE", "/stop?t=x": "x",
	} {
		method := http.MethodPost
		if strings.HasPrefix(path, "/logs") || strings.HasPrefix(path, "/stats") {
			method = http.MethodGet
		}
		if status, text := h.send("1.56", method, at+path, ""); status < http.StatusBadRequest || !strings.Contains(text, want) {
			t.Errorf("%s: %d %s, want %s", path, status, text, want)
		}
	}
	ok(http.MethodPost, "/start")
	if text := ok(http.MethodGet, "/top?ps_args=-o+pid,args"); !strings.Contains(text, `"Titles":["PID","COMMAND"]`) {
		t.Errorf("top: %s", text)
	}
	if text := ok(http.MethodGet, "/stats?stream=0&one-shot=1"); !strings.Contains(text, `"preread":"0001-01-01T00:00:00Z"`) {
		t.Errorf("one sample: %s", text)
	}
	h.extract(at, "&copyUIDGID=1", "owned", tar.TypeReg)
	if out, _ := h.docker("", "exec", id, "stat", "-c", "%u", "/tmp/owned"); out != "33\n" {
		t.Errorf("owner of what was copied: %q", out)
	}
	h.docker("", "exec", "-u", "0", id, "mkdir", "/tmp/place")
	if status := h.extract(at, "&noOverwriteDirNonDir=1", "place", tar.TypeReg); status < http.StatusBadRequest {
		t.Errorf("a file in place of a directory: %d", status)
	}
	ok(http.MethodPost, "/stop?t=0")
	if text := ok(http.MethodPost, "/wait?condition=not-running"); !strings.Contains(text, "137") {
		t.Errorf("wait: %s", text)
	}
}

// extract sends an archive of one file to /tmp of a container, and returns the status of the answer.
func (h *dockerHost) extract(at, query, name string, kind byte) int {
	h.t.Helper()
	var archive bytes.Buffer
	w := tar.NewWriter(&archive)
	if err := w.WriteHeader(&tar.Header{Name: name, Typeflag: kind, Mode: 0o644}); err != nil {
		h.t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		h.t.Fatal(err)
	}
	status, _ := h.send("1.51", http.MethodPut, at+"/archive?path=/tmp"+query, archive.String())
	return status
}

// Platforms were not looked at, manifests and shared sizes were not shown.
func TestParametersOfImages(t *testing.T) {
	h := newBusyboxHost(t)
	if out, code := h.docker("", "create", "--name", "user", "busybox"); code != 0 {
		t.Fatal(out)
	}
	if out, code := h.docker("", "commit", "user", "child:1"); code != 0 {
		t.Fatal(out)
	}
	arm, own := url.QueryEscape(`{"os":"linux","architecture":"s390x"}`), url.QueryEscape(`{"os":"linux","architecture":"amd64"}`)
	const wrong = "was found but does not provide the specified platform (linux/s390x)"
	for _, c := range []struct {
		method, path string
		status       int
		want         string
	}{
		{"GET", "/images/json?shared-size=1", 200, `"SharedSize":`}, {"GET", "/images/json?manifests=1", 200, `"Kind":"image"`}, {"GET", "/images/json?identity=1", 400, "conflicting options: identity requires manifests=1"},
		{"GET", "/images/json?identity=1&manifests=1", 501, "identities of images: not supported by this engine"},
		{"GET", "/images/busybox/json?manifests=1", 200, `"Available":true`}, {"GET", "/images/busybox/json?manifests=1&platform=" + own, 400, "conflicting options: manifests and platform"},
		{"GET", "/images/busybox/json?platform=" + own, 200, `"Id"`}, {"GET", "/images/busybox/json?platform=" + arm, 404, wrong}, {"GET", "/images/busybox/json?platform=x", 400, "failed to parse platform"},
		{"GET", "/images/busybox/json?platform=" + url.QueryEscape(`{"os":"linux"}`), 400, "both OS and Architecture must be provided"},
		{"GET", "/images/busybox/history?platform=" + arm, 404, wrong}, {"GET", "/images/busybox/get?platform=" + arm, 404, wrong}, {"GET", "/images/get?names=busybox&names=child:1&platform=" + arm, 404, wrong},
		{"GET", "/images/get?names=busybox&names=child:1", 200, "child"}, {"POST", "/images/busybox/push?platform=" + arm, 200, wrong}, {"POST", "/images/load?platform=x", 400, "failed to parse platform"},
		{"DELETE", "/images/child:1?platforms=" + own, 400, "Content will be removed from all images"},
		{"POST", "/images/create?fromImage=busybox&platform=a/b/c/d", 400, "invalid"}, {"POST", "/images/create?fromSrc=-&platform=a/b/c/d", 400, "invalid"}, {"POST", "/images/create?fromSrc=http://x", 400, "import from a URL"},
	} {
		if status, text := h.send("1.56", c.method, c.path, ""); status != c.status || !strings.Contains(text, c.want) {
			t.Errorf("%s %s: %d %.300s, want %d %s", c.method, c.path, status, text, c.status, c.want)
		}
	}
	_, text := h.send("1.56", http.MethodGet, "/images/json", "")
	if strings.Contains(text, "Manifests") || !strings.Contains(text, `"SharedSize":-1`) {
		t.Errorf("what nobody has asked for: %s", text)
	}
	var archive bytes.Buffer
	if err := tar.NewWriter(&archive).Close(); err != nil {
		t.Fatal(err)
	}
	status, text := h.send("1.56", http.MethodPost, "/images/create?fromSrc=-&repo=made&tag=2&message=why&changes=CMD+x&platform=linux/arm64", archive.String())
	if status != http.StatusOK {
		t.Fatalf("import: %d %s", status, text)
	}
	if _, shown := h.send("1.56", http.MethodGet, "/images/made:2/json", ""); field(t, shown, "Architecture") != "arm64" || !strings.Contains(fmt.Sprint(field(t, shown, "Config.Cmd")), "x") {
		t.Errorf("imported: %s", shown)
	}
	if _, shown := h.send("1.56", http.MethodGet, "/images/made:2/history", ""); !strings.Contains(shown, `"Comment":"why"`) {
		t.Errorf("history of what was imported: %s", shown)
	}
}

func TestBuildsReadTheirParameters(t *testing.T) {
	read := func(query string) string {
		out, err := fromAPIBuild(httptest.NewRequest(http.MethodPost, "/build?"+query, http.NoBody), false)
		if err != nil {
			return err.Error()
		}
		out.Body = nil
		return fmt.Sprintf("%+v", out)
	}
	plain := read("")
	for _, query := range []string{
		"dockerfile=x", "t=x", "extrahosts=a:1.2.3.4", "remote=https://x", "nocache=1", `cachefrom=["x"]`, "pull=1", "memory=1", "memswap=1", "cpushares=1", "cpusetcpus=0", "cpuperiod=1", "cpuquota=1",
		`buildargs={"a":"b"}`, "shmsize=1", `labels={"a":"b"}`, "networkmode=x", "platform=linux/arm64", "target=x", `outputs=[{"Type":"local"}]`,
	} {
		name, value, _ := strings.Cut(query, "=")
		if got := read(name + "=" + url.QueryEscape(value)); got == plain || strings.Contains(got, "rror") {
			t.Errorf("%s has no effect: %s", query, got)
		}
	}
	for query, want := range map[string]string{
		"squash=1": "squash is only supported with experimental mode", "memory=x": "memory: ", "version=9": "invalid version", "outputs=[": "invalid outputs specified", "extrahosts=x": "invalid host x",
		"securityopt=x": "security options are not supported on linux", "isolation=x": "unsupported isolation",
	} {
		if got := read(query); !strings.Contains(got, want) {
			t.Errorf("%s: %s, want %s", query, got, want)
		}
	}
}

func TestBuildCacheIsPruned(t *testing.T) {
	read := func(query string) string {
		out, err := fromAPIPrune(httptest.NewRequest(http.MethodPost, "/build/prune?"+query, http.NoBody))
		if err != nil {
			return err.Error()
		}
		out.KeepFor = out.KeepFor.Round(time.Hour)
		return fmt.Sprintf("%+v", out)
	}
	plain := read("")
	for _, query := range []string{
		"all=1", "reserved-space=5", "max-used-space=6", "min-free-space=7", `filters={"until":["24h"]}`, `filters={"unused-for":["24h"]}`, `filters={"id":["x"]}`, `filters={"parent":["x"]}`, `filters={"type":["x"]}`,
		`filters={"description":["x"]}`, `filters={"inuse":[""]}`, `filters={"shared":[""]}`, `filters={"private":[""]}`, `filters={"label":["x"]}`,
	} {
		name, value, _ := strings.Cut(query, "=")
		if got := read(name + "=" + url.QueryEscape(value)); got == plain {
			t.Errorf("%s has no effect", query)
		}
	}
	for query, want := range map[string]string{"reserved-space=x": "in bytes and expects an integer", "filters=" + url.QueryEscape(`{"nosuch":["x"]}`): "invalid filter 'nosuch'"} {
		if got := read(query); !strings.Contains(got, want) {
			t.Errorf("%s: %s, want %s", query, got, want)
		}
	}
}
