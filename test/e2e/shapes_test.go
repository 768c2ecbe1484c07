package e2e

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/shoal-dev/shoal/test/lab"
)

// send sends a request with a JSON body, if it has one, to a node as a client of an API version does, and returns the answer.
func (c *cluster) send(n *lab.Node, version, method, path, body string) (int, string) {
	c.t.Helper()
	client := http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", n.Socket())
	}}}
	defer client.CloseIdleConnections()
	request, err := http.NewRequestWithContext(c.t.Context(), method, "http://docker/v"+version+path, strings.NewReader(body))
	if err != nil {
		c.t.Fatal(err)
	}
	if body != "" {
		request.Header.Set("Content-Type", "application/json")
	}
	response, err := client.Do(request)
	if err != nil {
		c.t.Fatal(err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		c.t.Fatal(err)
	}
	return response.StatusCode, string(text)
}

// expectedField is a field that answers of an endpoint have in an API version.
type expectedField struct {
	path, kind string
	always     bool
}

// readShapes reads testdata/api-shapes.txt: fields by version and endpoint.
func (c *cluster) readShapes() map[string]map[string][]expectedField {
	c.t.Helper()
	text, err := os.ReadFile("testdata/api-shapes.txt")
	if err != nil {
		c.t.Fatal(err)
	}
	shapes, endpoint := map[string]map[string][]expectedField{}, ""
	for line := range strings.Lines(string(text)) {
		row, isRow := strings.CutPrefix(line, "\t")
		if !isRow {
			endpoint = strings.TrimSpace(line)
			continue
		}
		words := strings.Fields(row)
		for version := range strings.SplitSeq(words[0], ",") {
			if shapes[version] == nil {
				shapes[version] = map[string][]expectedField{}
			}
			for _, word := range words[1:] {
				path, kind, _ := strings.Cut(word, ":")
				path, always := strings.CutSuffix(path, "!")
				shapes[version][endpoint] = append(shapes[version][endpoint], expectedField{path, kind, always})
			}
		}
	}
	return shapes
}

// found is what a JSON value has at a path such as "[].Spec.Name", and whether something on the way to it lacks the next field.
func found(value any, path string) (values []any, lacks bool) {
	if path == "" {
		return []any{value}, false
	}
	name, rest := path, ""
	if at := strings.IndexAny(path, ".["); at >= 0 {
		name, rest = path[:at], strings.TrimPrefix(path[at:], ".")
	}
	switch v := value.(type) {
	case []any:
		rest, isElement := strings.CutPrefix(path, "[]")
		if !isElement {
			return nil, false // of another type, which is told of it itself
		}
		for _, e := range v {
			more, without := found(e, strings.TrimPrefix(rest, "."))
			values, lacks = append(values, more...), lacks || without
		}
		return values, lacks
	case map[string]any:
		inner, has := v[name]
		if !has {
			return nil, rest == ""
		}
		return found(inner, rest)
	}
	return nil, false
}

func kindOf(value any) string {
	switch value.(type) {
	case string:
		return "s"
	case float64:
		return "n"
	case bool:
		return "b"
	case []any:
		return "a"
	case map[string]any:
		return "o"
	}
	return "" // null
}

// differencesOfShape is what an answer lacks, or has of another type, sorted as the fields are.
func differencesOfShape(answer any, fields []expectedField) []string {
	var out []string
	for _, f := range fields {
		values, lacks := found(answer, f.path)
		if lacks && f.always {
			out = append(out, f.path+" is missing")
		}
		for _, v := range values {
			if kind := kindOf(v); kind != "" && kind != f.kind {
				out = append(out, fmt.Sprintf("%s is %q, not %q", f.path, kind, f.kind))
				break
			}
		}
	}
	return out
}

// shapesOfEveryVersion asks a manager for one of everything, as clients of several API versions do, and compares the answers with what these versions define.
func (c *cluster) shapesOfEveryVersion() {
	c.t.Helper()
	n := c.n1
	c.ok(n, "swarm", "init", "--advertise-addr", n.Addr)
	c.ok(n, "network", "create", "shaped")
	c.ok(n, "volume", "create", "shaped")
	c.ok(n, "run", "-d", "--name", "shaped", "-p", "8081:80", "--network", "shaped", "-v", "shaped:/v", "--health-cmd", "true", "--restart", "always", "--label", "a=b", "-m", "64m", "busybox", "sleep", "1000")
	for _, kind := range []string{"secret", "config"} {
		if r := c.shoal(n, "text", kind, "create", "shaped", "-"); r.Code != 0 {
			c.t.Fatal(r.Text())
		}
	}
	c.create(n, "--name", "shaped", "--replicas", "1", "-p", "8082:80", "--secret", "shaped", "--config", "shaped", "--mount", "type=tmpfs,target=/t", "--limit-memory", "64m", "busybox", "sleep", "1000")
	var task string
	c.eventually(time.Minute, "the service runs", func() error {
		task = c.ok(n, "service", "ps", "-q", "--no-trunc", "shaped", "--filter", "desired-state=running")
		return c.running("shaped", 1)
	})
	exec := func(version string) string {
		_, text := c.send(n, version, "POST", "/containers/shaped/exec", `{"Cmd":["true"]}`)
		var made struct{ ID string }
		if err := json.Unmarshal([]byte(text), &made); err != nil {
			c.t.Fatal(err)
		}
		return made.ID
	}
	node := c.ok(n, "info", "--format", "{{.Swarm.NodeID}}")
	for version, endpoints := range c.readShapes() {
		c.docker(n, "rm", "ended") // of a version that had no way to prune it
		c.ok(n, "run", "--name", "ended", "busybox", "true")
		query := map[string]string{"GET /containers/{id}/stats": "?stream=0", "GET /containers/json": "?all=1&size=1", "GET /events": "?since=1&until=" + fmt.Sprint(time.Now().Unix()) + `&filters={"type":["container"]}`,
			"GET /containers/{id}/json": "?size=1", "POST /commit": "?container=ended", "GET /services": "?status=1"}
		body := map[string]string{
			"POST /containers/create": `{"Image":"busybox"}`, "POST /containers/{id}/update": `{"CpuShares":512}`, "POST /networks/create": `{"Name":"made` + version + `"}`, "POST /volumes/create": `{"Name":"made` + version + `"}`,
			"POST /containers/{id}/exec": `{"Cmd":["true"]}`, "POST /services/create": `{"Name":"made` + strings.ReplaceAll(version, ".", "") + `","Mode":{"Replicated":{"Replicas":0}},"TaskTemplate":{"ContainerSpec":{"Image":"busybox"}}}`,
			"POST /secrets/create": `{"Name":"made` + version + `","Data":"eA=="}`, "POST /configs/create": `{"Name":"made` + version + `","Data":"eA=="}`,
		}
		// What is to be pruned is asked for before.
		for _, endpoint := range slices.SortedFunc(maps.Keys(endpoints), func(a, b string) int {
			return cmp.Or(cmp.Compare(strings.Count(a, "prune"), strings.Count(b, "prune")), strings.Compare(a, b))
		}) {
			fields := endpoints[endpoint]
			method, path, _ := strings.Cut(endpoint, " ")
			id := map[string]string{"/containers/{id}/wait": "ended", "/nodes/{id}": node, "/tasks/{id}": task}[path]
			switch {
			case path == "/exec/{id}/json":
				id = exec(version)
			case path == "/images/{name}/json" || path == "/images/{name}/history":
				id = "busybox"
			case id == "":
				id = "shaped"
			}
			path = strings.NewReplacer("{id}", id, "{name}", id).Replace(path) + query[endpoint]
			status, text := c.send(n, version, method, path, body[endpoint])
			var answer any
			if err := json.NewDecoder(strings.NewReader(text)).Decode(&answer); err != nil || status >= http.StatusBadRequest {
				c.t.Errorf("%s %s: %d %v %.200s", version, endpoint, status, err, text)
				continue
			}
			for _, d := range differencesOfShape(answer, fields) {
				c.t.Errorf("%s %s: %s", version, endpoint, d)
			}
		}
	}
}

// A comparison that finds nothing wrong anywhere shows nothing.
func TestShapesAreCompared(t *testing.T) {
	t.Parallel()
	answer, ok := decode(`[{"ID":"x","Spec":{"Replicas":"3","Gone":null},"Tags":["a",1]},{"ID":"y","Spec":{}}]`)
	if !ok {
		t.Fatal("no JSON")
	}
	got := differencesOfShape(answer, []expectedField{
		{"[].ID", "s", true}, {"[].Spec.Replicas", "n", false}, {"[].Spec.Gone", "o", true}, {"[].Tags", "a", true}, {"[].Tags[]", "s", false}, {"[].Nosuch.Deep", "s", true}, {"[].Nosuch", "o", false},
	})
	want := []string{`[].Spec.Replicas is "s", not "n"`, "[].Spec.Gone is missing", "[].Tags is missing", `[].Tags[] is "n", not "s"`}
	if !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
}
