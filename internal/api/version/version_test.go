package version

import (
	"encoding"
	"encoding/json"
	"flag"
	"fmt"
	"maps"
	"net/url"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/events"
	"github.com/moby/moby/api/types/image"
	"github.com/moby/moby/api/types/network"
	"github.com/moby/moby/api/types/swarm"
	"github.com/moby/moby/api/types/system"
)

var update = flag.Bool("update", false, "write testdata/shapes.txt and the table of docs/api-versions.md")

// filled is a value of v's type in which every field is set, so that its JSON has all the fields that there can be.
func filled(v reflect.Value, depth int) {
	if _, text := reflect.TypeAssert[encoding.TextMarshaler](v.Addr()); text || depth > 12 {
		return
	}
	switch v.Kind() { //nolint:exhaustive // the kinds that JSON has
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		v.SetInt(1)
	case reflect.Uint, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		v.SetUint(1)
	case reflect.Float64:
		v.SetFloat(1)
	case reflect.String:
		v.SetString("x")
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		filled(v.Elem(), depth+1)
	case reflect.Slice:
		if v.Type().Elem().Kind() == reflect.Uint8 {
			return
		}
		v.Set(reflect.MakeSlice(v.Type(), 1, 1))
		filled(v.Index(0), depth+1)
	case reflect.Array:
		filled(v.Index(0), depth+1)
	case reflect.Map:
		key, value := reflect.New(v.Type().Key()).Elem(), reflect.New(v.Type().Elem()).Elem()
		filled(key, depth+1)
		filled(value, depth+1)
		v.Set(reflect.MakeMap(v.Type()))
		v.SetMapIndex(key, value)
	case reflect.Struct:
		for field, value := range v.Fields() {
			if field.IsExported() {
				filled(value, depth+1)
			}
		}
	}
}

// paths is the fields of a JSON value with the kinds of their values, such as "Config.Env[] string".
func paths(v any, at string, to map[string]bool) {
	switch v := v.(type) {
	case object:
		for name, value := range v {
			paths(value, strings.TrimPrefix(at+"."+name, "."), to)
		}
	case []any:
		for _, e := range v {
			paths(e, at+"[]", to)
		}
	case nil:
		to[at+" null"] = true
	case string:
		to[at+" string"] = true
	case bool:
		to[at+" bool"] = true
	default:
		to[at+" number"] = true
	}
}

// allVersions is every API version from Min to Max.
func allVersions() []string {
	var out []string
	for minor := 24; minor <= 56; minor++ {
		out = append(out, fmt.Sprintf("1.%d", minor))
	}
	return out
}

// The answers of every endpoint whose JSON depends on the API version, as the newest has them and with what each older one has more (+) or less (-) than the next.
func TestShapesOfEveryVersion(t *testing.T) {
	table := NewTable()
	var text strings.Builder
	for _, answer := range []struct {
		route, path string
		value       any
	}{
		{"GET", "/containers/x/json", container.InspectResponse{}},
		{"GET", "/containers/json", []container.Summary{}},
		{"GET", "/images/json", []image.Summary{}},
		{"GET", "/images/x/y/json", image.InspectResponse{}},
		{"GET", "/info", system.Info{}},
		{"GET", "/networks/x", network.Inspect{}},
		{"GET", "/services/x", swarm.Service{}},
		{"GET", "/system/df", struct {
			system.DiskUsage
			Images []image.Summary
		}{}},
		{"GET", "/events", events.Message{Type: events.ContainerEventType}},
	} {
		v := reflect.New(reflect.TypeOf(answer.value)).Elem()
		filled(v, 0)
		if e, ok := reflect.TypeAssert[*events.Message](v.Addr()); ok {
			e.Type = events.ContainerEventType
		}
		newer := shape(t, nil, v.Interface())
		fmt.Fprintf(&text, "%s %s\n%s", answer.route, answer.path, lines("  ", slices.Sorted(maps.Keys(newer))))
		for _, version := range slices.Backward(allVersions()) {
			older := shape(t, table.Conversion(version, answer.route, answer.path), v.Interface())
			if differences := slices.Concat(missing("+ ", newer, older), missing("- ", older, newer)); len(differences) > 0 {
				fmt.Fprintf(&text, "  up to %s\n%s", version, lines("    ", differences))
			}
			newer = older
		}
	}
	const golden = "testdata/shapes.txt"
	if *update {
		if err := os.WriteFile(golden, []byte(text.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if string(want) != text.String() {
		t.Errorf("the shapes of answers have changed; if that is meant, run this test with -update and read the difference")
	}
}

// missing is the sorted paths of b that a lacks.
func missing(sign string, a, b map[string]bool) []string {
	var out []string
	for _, path := range slices.Sorted(maps.Keys(b)) {
		if !a[path] {
			out = append(out, sign+path)
		}
	}
	return out
}

func lines(indent string, list []string) string {
	var out strings.Builder
	for _, l := range list {
		out.WriteString(indent + l + "\n")
	}
	return out.String()
}

func shape(t *testing.T, c *Conversion, answer any) map[string]bool {
	t.Helper()
	converted := answer
	if c != nil {
		var err error
		if converted, _, err = c.Answer(answer); err != nil {
			t.Fatal(err)
		}
	}
	text, err := json.Marshal(converted)
	if err != nil {
		t.Fatal(err)
	}
	var tree any
	if err := decode(text, &tree); err != nil {
		t.Fatal(err)
	}
	out := map[string]bool{}
	paths(tree, "", out)
	return out
}

func TestBodiesOfOlderClients(t *testing.T) {
	table := NewTable()
	for _, c := range []struct {
		version, path, body, want, refused string
		warnings                           int
	}{
		{version: "1.39", path: "/containers/create", body: `{"Image":"i"}`, want: `{"HostConfig":{"IpcMode":"shareable"},"Image":"i"}`},
		{version: "1.40", path: "/containers/create", body: `{"Image":"i"}`, want: `{"Image":"i"}`},
		{version: "1.43", path: "/containers/create", body: `{"MacAddress":"02:00:00:00:00:01"}`,
			want: `{"NetworkingConfig":{"EndpointsConfig":{"default":{"MacAddress":"02:00:00:00:00:01"}}}}`},
		{version: "1.43", path: "/containers/create", body: `{"HostConfig":{"NetworkMode":"host"},"MacAddress":"02:00:00:00:00:01"}`, refused: "conflicting options: mac-address and the network mode"},
		{version: "1.43", path: "/containers/create", body: `{"NetworkingConfig":{"EndpointsConfig":{"a":{},"b":{}}}}`, refused: "Container cannot be created with multiple network endpoints: a, b"},
		{version: "1.43", path: "/containers/create", body: `{"HostConfig":{"Mounts":[{"Type":"bind","ReadOnly":true}]}}`,
			want: `{"HostConfig":{"Mounts":[{"BindOptions":{"ReadOnlyNonRecursive":true},"ReadOnly":true,"Type":"bind"}]}}`},
		{version: "1.44", path: "/containers/create", body: `{"HostConfig":{"Mounts":[{"Type":"volume","VolumeOptions":{"Subpath":"s"}}]}}`, refused: "VolumeOptions.Subpath needs API v1.45 or newer"},
		{version: "1.51", path: "/containers/create", body: `{"HostConfig":{"NetworkMode":"n"},"MacAddress":"02:00:00:00:00:01"}`, warnings: 1,
			want: `{"HostConfig":{"NetworkMode":"n"},"NetworkingConfig":{"EndpointsConfig":{"n":{"MacAddress":"02:00:00:00:00:01"}}}}`},
		{version: "1.51", path: "/containers/create", body: `{"NetworkingConfig":{"EndpointsConfig":{"bridge":{"MacAddress":"02:00:00:00:00:02"}}},"MacAddress":"02:00:00:00:00:01"}`,
			refused: "the container-wide MAC address must match the endpoint-specific MAC address for the main network, or be left empty"},
		{version: "1.47", path: "/containers/create", body: `{"HostConfig":{"Sysctls":{"net.ipv4.conf.eth0.forwarding":"1"}}}`, warnings: 1,
			want: `{"HostConfig":{"Sysctls":{}},"NetworkingConfig":{"EndpointsConfig":{"default":{"DriverOpts":{"com.docker.network.endpoint.sysctls":"net.ipv4.conf.IFNAME.forwarding=1"}}}}}`},
		{version: "1.43", path: "/services/create", body: `{"Networks":[{"Target":"n"}],"TaskTemplate":{"ContainerSpec":{"OomScoreAdj":5}}}`,
			want: `{"TaskTemplate":{"ContainerSpec":{},"Networks":[{"Target":"n"}]}}`},
		{version: "1.24", path: "/containers/create", body: `null`, want: `null`},
		{version: "1.24", path: "/containers/create", body: `[1]`, want: `[1]`},
		{version: "1.36", path: "/secrets/create", body: `{"Templating":{"Name":"golang"}}`, refused: "templating is not supported on the specified API version: 1.37 or newer is needed"},
	} {
		got, warnings, err := table.Conversion(c.version, "POST", c.path).Body([]byte(c.body))
		if c.refused != "" {
			if err == nil || err.Error() != c.refused || !errdefs.IsInvalidArgument(err) {
				t.Errorf("%s %s %s: %v, want %q", c.version, c.path, c.body, err, c.refused)
			}
			continue
		}
		if err != nil || string(got) != c.want || len(warnings) != c.warnings {
			t.Errorf("%s %s %s:\n%s, want\n%s, %v %v", c.version, c.path, c.body, got, c.want, warnings, err)
		}
	}
}

func TestParametersOfOlderClients(t *testing.T) {
	table := NewTable()
	for _, c := range []struct{ version, method, path, query, want string }{
		{"1.41", "POST", "/volumes/prune", "", `filters={"all":{"true":true}}`},
		{"1.41", "POST", "/volumes/prune", `filters={"label":["a"]}`, `filters={"all":["true"],"label":["a"]}`},
		{"1.41", "POST", "/volumes/prune", `filters={"all":["0"]}`, `filters={"all":["0"]}`},
		{"1.40", "GET", "/images/json", "filter=busybox", `filter=busybox&filters={"reference":{"busybox":true}}`},
		{"1.41", "POST", "/containers/x/stop", "signal=KILL&t=1", "t=1"},
		{"1.45", "POST", "/images/a/b/push", "platform={}&tag=1", "tag=1"},
	} {
		q, err := url.ParseQuery(c.query)
		if err != nil {
			t.Fatal(err)
		}
		table.Conversion(c.version, c.method, c.path).Query(q)
		if got, _ := url.QueryUnescape(q.Encode()); got != c.want {
			t.Errorf("%s %s?%s: %s, want %s", c.version, c.path, c.query, got, c.want)
		}
	}
	if c := table.Conversion(Max, "POST", "/volumes/prune"); c != nil {
		t.Errorf("the newest version is converted: %v", c)
	}
}

func TestCreationsOfImagesAreNotSentToOlderClients(t *testing.T) {
	c := NewTable().Conversion("1.45", "GET", "/events")
	if _, send, err := c.Answer(events.Message{Type: events.ImageEventType, Action: events.ActionCreate}); send || err != nil {
		t.Errorf("sent, %v", err)
	}
	got, send, err := c.Answer(events.Message{Type: events.ContainerEventType, Action: "start", Actor: events.Actor{ID: "c", Attributes: map[string]string{"image": "i"}}})
	if o, _ := got.(object); !send || err != nil || o["status"] != "start" || o["id"] != "c" || o["from"] != "i" {
		t.Errorf("%v %v", got, err)
	}
}

// docs/api-versions.md lists the changes, in the words of their rows.
func TestDocumentedChangesAreThoseOfTheTable(t *testing.T) {
	const page, head = "../../../docs/api-versions.md", "| since | endpoint | what changed |\n|---|---|---|\n"
	text, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	before, table, _ := strings.Cut(string(text), head)
	var want strings.Builder
	for _, c := range Changes() {
		fmt.Fprintf(&want, "| %s | `%s` | %s |\n", c.Since, c.Route, c.What)
	}
	if *update {
		if err := os.WriteFile(page, []byte(before+head+want.String()), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if table != want.String() {
		t.Error("the table at the end of docs/api-versions.md is of other changes; run this test with -update")
	}
}

func TestChangesAreOldestFirst(t *testing.T) {
	last := Min
	for _, c := range Changes() {
		if Older(c.Since, last) || Older(Max, c.Since) {
			t.Errorf("%s %s comes after %s", c.Since, c.Route, last)
		}
		last = c.Since
	}
}
