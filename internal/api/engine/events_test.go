package engine

import (
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"
)

// What is done to a container, an image or a volume is told in Docker's words, and with what older clients read.
func TestEventsAreThoseOfDocker(t *testing.T) {
	h := newBusyboxHost(t)
	docker := func(args ...string) string {
		t.Helper()
		out, code := h.docker("", args...)
		if code != 0 {
			t.Fatalf("docker %v: %d %s", args, code, out)
		}
		return out
	}
	docker("run", "-dt", "--name", "told", "-v", "data:/d", "--stop-signal", "KILL", "busybox", "sleep", "1000")
	docker("top", "told")
	docker("cp", "told:/bin/busybox", t.TempDir())
	docker("cp", "events_test.go", "told:/f")
	docker("export", "-o", t.TempDir()+"/x", "told")
	docker("exec", "told", "true")
	docker("commit", "told", "made")
	docker("save", "-o", t.TempDir()+"/y", "made")
	if status, text := h.send("1.51", http.MethodPost, "/containers/told/resize?h=10&w=20", ""); status != 200 {
		t.Error(text)
	}
	docker("rm", "-f", "told")
	docker("container", "prune", "-f")
	docker("image", "prune", "-f")
	docker("volume", "prune", "-f")
	past := func(version, query string) []string {
		t.Helper()
		began := time.Now()
		status, text := h.send(version, http.MethodGet, "/events?since=1&"+query, "")
		if status != 200 || time.Since(began) > 5*time.Second {
			t.Fatalf("%d %s after %s", status, text, time.Since(began))
		}
		return strings.Split(strings.TrimSpace(text), "\n")
	}
	until := "until=" + time.Now().Format(time.RFC3339Nano)
	var actions []string
	for _, line := range past("1.51", until) {
		var e struct {
			Type, Action, Status, ID, From string
			Actor                          struct {
				ID         string
				Attributes map[string]string
			}
		}
		if err := json.Unmarshal([]byte(line), &e); err != nil {
			t.Fatalf("%v: %s", err, line)
		}
		action, _, _ := strings.Cut(e.Action, ":")
		actions = append(actions, e.Type+" "+action)
		if e.Type == "container" && e.Action != "prune" && (e.Status != e.Action || e.ID != e.Actor.ID || e.From != "busybox") {
			t.Errorf("what older clients read: %s", line)
		}
		if e.Action == "prune" && e.Actor.Attributes["reclaimed"] == "" {
			t.Errorf("%s", line)
		}
		if e.Action == "resize" && (e.Actor.Attributes["height"] != "10" || e.Actor.Attributes["width"] != "20") && e.Actor.Attributes["height"] != "0" {
			t.Errorf("%s", line)
		}
	}
	for _, want := range []string{
		"container top", "container archive-path", "container extract-to-dir", "container export", "container exec_create", "container exec_start", "container exec_die",
		"container commit", "container resize", "container prune", "image create", "image tag", "image save", "image prune", "volume mount", "volume unmount", "volume prune",
	} {
		if !slices.Contains(actions, want) {
			t.Errorf("%q is not told: %v", want, actions)
		}
	}
	if mounts := len(slices.DeleteFunc(slices.Clone(actions), func(a string) bool { return a != "volume mount" })); mounts != 1 {
		t.Errorf("%d mounts are told", mounts)
	}
	if got := past("1.52", until)[0]; strings.Contains(got, `"status"`) {
		t.Errorf("a newer client is told: %s", got)
	}
	for _, line := range past("1.51", until+`&filters={"image":["busybox"]}`) {
		if !strings.Contains(line, `"image":"busybox"`) && !strings.Contains(line, `"name":"busybox`) {
			t.Errorf("filter by image: %s", line)
		}
	}
	if n := len(past("1.51", until+`&filters={"image":["busybox"],"event":["top"]}`)); n != 1 {
		t.Errorf("filter by image: %d of top", n)
	}
	if status, text := h.send("1.51", http.MethodGet, "/events?since=20&until=10", ""); status != 400 || !strings.Contains(text, "`since` time (20) cannot be after `until` time (10)") {
		t.Errorf("%d %s", status, text)
	}
}
