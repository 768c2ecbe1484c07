package engine

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/moby/moby/api/types/registry"

	"github.com/shoal-dev/shoal/internal/api/server"
	"github.com/shoal-dev/shoal/internal/shoal"
)

// listed is the values of a field in the answer to a list with filters, sorted, between spaces. A list within an object is under a name.
func (h *dockerHost) listed(path, within, name, filters string) string {
	h.t.Helper()
	separator := "?"
	if strings.Contains(path, "?") {
		separator = "&"
	}
	status, text := h.send("1.51", http.MethodGet, path+separator+"filters="+url.QueryEscape(filters), "")
	if status != http.StatusOK {
		return fmt.Sprintf("%d %v", status, field(h.t, text, "message"))
	}
	var tree any
	if err := json.Unmarshal([]byte(text), &tree); err != nil {
		h.t.Fatal(err)
	}
	if within != "" {
		tree = tree.(map[string]any)[within]
	}
	var out []string
	for _, e := range tree.([]any) {
		value := e.(map[string]any)[name]
		if list, ok := value.([]any); ok && len(list) > 0 {
			value = list[0]
		}
		out = append(out, strings.TrimPrefix(fmt.Sprint(value), "/"))
	}
	slices.Sort(out)
	return strings.Join(out, " ")
}

// Values that nothing can match were taken, as if there were nothing; others matched too much, or too little.
func TestFiltersOfLists(t *testing.T) {
	h := newBusyboxHost(t)
	docker := func(args ...string) string {
		t.Helper()
		out, code := h.docker("", args...)
		if code != 0 {
			t.Fatalf("docker %v: %s", args, out)
		}
		return strings.TrimSpace(out)
	}
	docker("volume", "create", "--label", "a=b", "used")
	docker("volume", "create", "free")
	one := docker("run", "-d", "--name", "one", "--label", "k=v", "-v", "used:/data", "-v", "/etc:/host", "-p", "8085:80", "--expose", "9000/udp", "--health-cmd", "false", "busybox", "sleep", "1000")
	docker("create", "--name", "two", "--network", "none", "busybox", "true")
	h.docker("", "run", "--name", "three", "busybox", "sh", "-c", "echo x >/f; exit 3")
	docker("commit", "three", "child:1")
	docker("run", "--name", "four", "child:1", "true")
	for filters, want := range map[string]string{
		`{"id":["` + one[:8] + `"]}`: "one", `{"name":["^/t"]}`: "three two", `{"name":["o"],"status":["running"]}`: "one", `{"status":["created","running"]}`: "one two",
		`{"exited":["3"]}`: "three", `{"label":["k=v"]}`: "one", `{"label":["k=w"]}`: "", `{"volume":["used"]}`: "one", `{"volume":["/data"]}`: "one", `{"volume":["/etc"]}`: "one",
		`{"network":["none"]}`: "two", `{"publish":["8085"]}`: "one", `{"publish":["8000-8100/tcp"]}`: "one", `{"publish":["8085/udp"]}`: "", `{"expose":["9000/udp"]}`: "one", `{"expose":["80"]}`: "one",
		`{"ancestor":["child:1"]}`: "four", `{"ancestor":["busybox"]}`: "four one three two", `{"ancestor":["nosuch"]}`: "", `{"before":["three"]}`: "one two", `{"since":["two"]}`: "four three",
		`{"is-task":["true"]}`: "", `{"is-task":["false"],"status":["running"]}`: "one", `{"health":["starting","unhealthy"]}`: "one", `{"health":["none"],"exited":["0"]}`: "four", `{"isolation":["x"],"exited":["3"]}`: "three",
		`{"exited":["x"]}`: `400 invalid filter 'exited=x': strconv.Atoi: parsing "x": invalid syntax`,
		`{"status":["x"]}`: "400 invalid filter 'status=x': invalid value for state (x)", `{"health":["x"]}`: "400 invalid filter 'health=x': invalid value for health (x)",
		`{"is-task":["x"]}`: "400 invalid filter 'is-task=[x]'", `{"is-task":["true","false"]}`: "400 invalid filter 'is-task=[", `{"publish":["1:2"]}`: "400 filter for 'publish' should not contain ':': 1:2",
		`{"expose":["x"]}`: "400 error while looking up for expose x: ", `{"before":["nosuch"]}`: "404 No such container: nosuch", `{"nosuch":["x"]}`: "400 invalid filter 'nosuch'",
	} {
		if got := h.listed("/containers/json?all=1", "", "Names", filters); got != want && (!strings.HasPrefix(want, "4") || !strings.HasPrefix(got, want)) {
			t.Errorf("containers with %s: %q, want %q", filters, got, want)
		}
	}
	if status, text := h.send("1.51", http.MethodGet, "/containers/json?limit=x", ""); status != http.StatusBadRequest || !strings.Contains(text, "invalid syntax") {
		t.Errorf("limit: %d %s", status, text)
	}
	for filters, want := range map[string]string{
		`{"name":["us"]}`: "used", `{"name":["^u.*d$"]}`: "used", `{"driver":["local"]}`: "free used", `{"driver":["x"]}`: "", `{"label":["a=b"]}`: "used", `{"dangling":["true"]}`: "free", `{"dangling":["0"]}`: "used",
		`{"dangling":["x"]}`: "400 invalid filter 'dangling=[x]'", `{"nosuch":["x"]}`: "400 invalid filter 'nosuch'",
	} {
		if got := h.listed("/volumes", "Volumes", "Name", filters); got != want {
			t.Errorf("volumes with %s: %q, want %q", filters, got, want)
		}
	}
	for filters, want := range map[string]string{
		`{"reference":["child"]}`: "child:1", `{"reference":["b*"]}`: "busybox:latest", `{"since":["busybox"]}`: "child:1", `{"before":["child:1"]}`: "busybox:latest", `{"since":["busybox","child:1"]}`: "",
		`{"dangling":["false"]}`: "busybox:latest child:1", `{"label":["x"]}`: "", `{"label!":["x"]}`: "busybox:latest child:1", `{"until":["1h"],"reference":["child"]}`: "",
		`{"dangling":["x"]}`: "400 invalid filter 'dangling=[x]'", `{"since":["nosuch"]}`: "404 No such image: nosuch", `{"until":["x"]}`: `400 invalid time "x"`, `{"nosuch":["x"]}`: "400 invalid filter 'nosuch'",
	} {
		if got := h.listed("/images/json", "", "RepoTags", filters); !strings.HasPrefix(got, want) || want == "" && got != "" {
			t.Errorf("images with %s: %q, want %q", filters, got, want)
		}
	}
	for path, filters := range map[string]string{
		"/containers/prune": `{"until":["x"]}`, "/images/prune": `{"dangling":["x"]}`, "/volumes/prune": `{"all":["x"]}`, "/build/prune": `{"until":["x"]}`,
	} {
		for _, f := range []string{filters, `{"nosuch":["x"]}`} {
			if status, text := h.send("1.51", http.MethodPost, path+"?filters="+url.QueryEscape(f), ""); status != http.StatusBadRequest {
				t.Errorf("%s with %s: %d %s", path, f, status, text)
			}
		}
	}
	h.docker("", "rm", "-f", "one")
	if status, text := h.send("1.51", http.MethodPost, "/containers/prune?filters="+url.QueryEscape(`{"label":["k=v"],"label!":["x"]}`), ""); status != http.StatusOK || !strings.Contains(text, `"ContainersDeleted":[]`) {
		t.Errorf("%d %s", status, text)
	}
}

// What a network is used for was known of containers on this node only, and names were parts of names only.
func TestFiltersOfNetworks(t *testing.T) {
	all := []shoal.Network{
		{ID: "aaa1", Spec: shoal.NetworkSpec{Name: "bridge", Driver: "bridge", Scope: "local"}},
		{ID: "bbb2", Spec: shoal.NetworkSpec{Name: "front", Driver: "bridge", Scope: "local", Labels: map[string]string{"a": "b"}}},
		{ID: "ccc3", Spec: shoal.NetworkSpec{Name: "back", Driver: "overlay", Scope: "swarm"}},
	}
	for filters, want := range map[string]string{
		`{}`: "bridge front back", `{"id":["bb"]}`: "front", `{"name":["^b"]}`: "bridge back", `{"driver":["overlay"]}`: "back", `{"scope":["local"]}`: "bridge front", `{"label":["a"]}`: "front",
		`{"type":["custom"]}`: "front back", `{"type":["builtin","custom"]}`: "bridge front back", `{"dangling":["true"]}`: "front", `{"dangling":["0"]}`: "bridge back",
		`{"type":["x"]}`:     "invalid filter: 'type'='x'",
		`{"dangling":["x"]}`: `invalid value for filter 'dangling', must be "true" (or "1"), or "false" (or "0")`, `{"dangling":["1","0"]}`: `got more than one value for filter key "dangling"`,
	} {
		f, err := server.ReadFilters(httptest.NewRequest(http.MethodGet, "/?filters="+url.QueryEscape(filters), http.NoBody), "dangling", "driver", "id", "label", "name", "scope", "type")
		if err != nil {
			t.Fatal(err)
		}
		got := ""
		keep, err := listedNetworks(f, func(n shoal.Network) bool { return n.Spec.Name == "back" })
		if err != nil {
			got = err.Error()
		} else {
			for _, n := range all {
				if keep(n) {
					got = strings.TrimSpace(got + " " + n.Spec.Name)
				}
			}
		}
		if got != want {
			t.Errorf("%s: %q, want %q", filters, got, want)
		}
	}
}

func TestAccountsInOneField(t *testing.T) {
	for _, c := range []struct{ given, want registry.AuthConfig }{
		{registry.AuthConfig{Auth: "YW5uOnNlOmNyZXQ="}, registry.AuthConfig{Auth: "YW5uOnNlOmNyZXQ=", Username: "ann", Password: "se:cret"}},
		{registry.AuthConfig{Auth: "YW5uOnNlOmNyZXQ=", Username: "bob"}, registry.AuthConfig{Auth: "YW5uOnNlOmNyZXQ=", Username: "bob"}},
	} {
		if err := readDeprecatedAuth(&c.given); err != nil || c.given != c.want {
			t.Errorf("%+v %v, want %+v", c.given, err, c.want)
		}
	}
	if err := readDeprecatedAuth(&registry.AuthConfig{Auth: "%"}); err == nil {
		t.Error("taken")
	}
}
