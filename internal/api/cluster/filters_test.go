package cluster

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/shoal-dev/shoal/internal/shoal"
	"github.com/shoal-dev/shoal/internal/store"
)

// Names of services and tasks matched in the middle, and roles that there are not matched nothing.
func TestFiltersOfTheClustersLists(t *testing.T) {
	rt, db := newRouter(t, nil)
	for _, body := range []string{
		`{"Name":"web","Labels":{"a":"b"},"TaskTemplate":{"ContainerSpec":{"Image":"i"}}}`, `{"Name":"my-web","Mode":{"Global":{}},"TaskTemplate":{"ContainerSpec":{"Image":"i"}}}`,
	} {
		if code, text := call(t, rt, "POST", "/services/create", body, nil); code != http.StatusCreated {
			t.Fatal(text)
		}
	}
	for _, kind := range []string{"secrets", "configs"} {
		for _, body := range []string{`{"Name":"pw","Data":"eA==","Labels":{"a":"b"}}`, `{"Name":"pw-2","Data":"eA=="}`} {
			if code, text := call(t, rt, "POST", "/"+kind+"/create", body, nil); code != http.StatusCreated {
				t.Fatal(text)
			}
		}
	}
	web := db.View().ServiceByName("web")
	node := &shoal.Node{ID: "node1", Role: shoal.RoleManager, Spec: shoal.NodeSpec{Labels: map[string]string{"disk": "ssd"}}, Description: shoal.NodeDescription{Hostname: "alpha", EngineLabels: map[string]string{"e": "1"}}}
	worker := &shoal.Node{ID: "work2", Role: shoal.RoleWorker, Description: shoal.NodeDescription{Hostname: "beta"}}
	task := &shoal.Task{ID: "task1", ServiceID: web.ID, ServiceName: "web", Slot: 1, NodeID: "node1", Labels: map[string]string{"t": "1"}, DesiredState: shoal.TaskRunning, SpecVersion: web.SpecVersion}
	old := &shoal.Task{ID: "task2", ServiceID: web.ID, ServiceName: "web", Slot: 2, NodeID: "work2", DesiredState: shoal.TaskShutdown, SpecVersion: web.SpecVersion + 7}
	if _, err := db.Commit(t.Context(), store.Changes{Puts: []store.Object{node, worker, task, old}}); err != nil {
		t.Fatal(err)
	}
	named := func(path, filters string) string {
		var out []struct {
			ID          string
			Spec        struct{ Name string }
			Description struct{ Hostname string }
		}
		code, text := call(t, rt, "GET", path+"?filters="+url.QueryEscape(filters), "", &out)
		if code != http.StatusOK {
			return fmt.Sprint(code, " ", text)
		}
		var names []string
		for _, o := range out {
			switch path {
			case "/tasks":
				names = append(names, o.ID)
			case "/nodes":
				names = append(names, o.Description.Hostname)
			default:
				names = append(names, o.Spec.Name)
			}
		}
		slices.Sort(names)
		return strings.Join(names, " ")
	}
	for _, c := range []struct{ path, filters, want string }{
		{"/services", `{"name":["web"]}`, "web"}, {"/services", `{"name":["my"]}`, "my-web"}, {"/services", `{"id":["` + string(web.ID[:6]) + `"]}`, "web"}, {"/services", `{"label":["a=b"]}`, "web"},
		{"/services", `{"mode":["global"]}`, "my-web"}, {"/services", `{"runtime":["container"]}`, "my-web web"}, {"/services", `{"runtime":["plugin"]}`, ""},
		{"/services", `{"nosuch":["x"]}`, "400 invalid filter 'nosuch'"},
		{"/tasks", `{"id":["task1"]}`, "task1"}, {"/tasks", `{"name":["web.1"]}`, "task1"}, {"/tasks", `{"name":["eb"]}`, ""}, {"/tasks", `{"label":["t=1"]}`, "task1"}, {"/tasks", `{"service":["web"]}`, "task1 task2"},
		{"/tasks", `{"service":["my-web"]}`, ""}, {"/tasks", `{"node":["alpha"]}`, "task1"}, {"/tasks", `{"desired-state":["shutdown"]}`, "task2"}, {"/tasks", `{"desired-state":["running"]}`, "task1"},
		{"/tasks", `{"_up-to-date":["true"]}`, "task1"}, {"/tasks", `{"runtime":["plugin"]}`, ""}, {"/tasks", `{"desired-state":["x"]}`, "400 Invalid desired-state filter: 'x'"},
		{"/tasks", `{"service":["nosuch"]}`, "404 service nosuch not found"}, {"/tasks", `{"nosuch":["x"]}`, "400 invalid filter 'nosuch'"},
		{"/nodes", `{"id":["node"]}`, "alpha"}, {"/nodes", `{"name":["be"]}`, "beta"}, {"/nodes", `{"label":["e=1"]}`, "alpha"}, {"/nodes", `{"node.label":["disk"]}`, "alpha"}, {"/nodes", `{"role":["Worker"]}`, "beta"},
		{"/nodes", `{"membership":["accepted"]}`, "alpha beta"}, {"/nodes", `{"membership":["pending"]}`, ""}, {"/nodes", `{"role":["x"]}`, "400 Invalid role filter: 'x'"},
		{"/nodes", `{"membership":["x"]}`, "400 Invalid membership filter: 'x'"}, {"/nodes", `{"nosuch":["x"]}`, "400 invalid filter 'nosuch'"},
		{"/secrets", `{"name":["pw"]}`, "pw pw-2"}, {"/secrets", `{"names":["pw"]}`, "pw"}, {"/secrets", `{"label":["a"]}`, "pw"}, {"/secrets", `{"id":["nosuch"]}`, ""}, {"/secrets", `{"nosuch":["x"]}`, "400 invalid filter 'nosuch'"},
		{"/configs", `{"name":["pw-"]}`, "pw-2"}, {"/configs", `{"names":["pw"]}`, "pw"}, {"/configs", `{"label":["a=c"]}`, ""}, {"/configs", `{"id":["nosuch"]}`, ""}, {"/configs", `{"nosuch":["x"]}`, "400 invalid filter 'nosuch'"},
	} {
		if got := named(c.path, c.filters); got != c.want {
			t.Errorf("%s with %s: %q, want %q", c.path, c.filters, got, c.want)
		}
	}
}

// Another driver, or another template language, was dropped by an update of a secret.
func TestOnlyTheLabelsOfASecretChange(t *testing.T) {
	rt, db := newRouter(t, nil)
	if code, text := call(t, rt, "POST", "/secrets/create", `{"Name":"pw","Data":"eA==","Templating":{"Name":"golang"}}`, nil); code != http.StatusCreated {
		t.Fatal(text)
	}
	for body, want := range map[string]int{
		`{"Name":"pw","Driver":{"Name":"vault"}}`: 400, `{"Name":"pw","Templating":{"Name":"jinja"}}`: 400, `{"Name":"other"}`: 400, `{"Name":"pw","Labels":{"a":"b"},"Templating":{"Name":"golang"}}`: 200,
	} {
		version := db.View().Secrets()[0].Version
		if code, text := call(t, rt, "POST", fmt.Sprintf("/secrets/pw/update?version=%d", version), body, nil); code != want {
			t.Errorf("%s: %d %s", body, code, text)
		}
	}
}

// A source of credentials that there is not was taken for the present spec.
func TestCredentialsOfAnUpdate(t *testing.T) {
	rt, db := newRouter(t, nil)
	update := func(query, auth string) (int, string) {
		t.Helper()
		version := uint64(0)
		path := "/services/create"
		if s := db.View().ServiceByName("web"); s != nil {
			version = s.Version
			path = fmt.Sprintf("/services/web/update?version=%d%s", version, query)
		}
		r := httptest.NewRequest(http.MethodPost, path, strings.NewReader(fmt.Sprintf(`{"Name":"web","TaskTemplate":{"ForceUpdate":%d,"ContainerSpec":{"Image":"i"}}}`, version)))
		r.Header.Set("Content-Type", "application/json")
		r.Header.Set("X-Registry-Auth", auth)
		w := httptest.NewRecorder()
		rt.ServeHTTP(w, r)
		return w.Code, w.Body.String()
	}
	for _, c := range []struct {
		query, auth string
		code        int
		want        string
	}{
		{"", "first", 201, "first"}, {"", "second", 200, "second"}, {"&registryAuthFrom=spec", "", 200, "second"}, {"&registryAuthFrom=x", "", 400, "second"},
		{"", "third", 200, "third"}, {"&registryAuthFrom=previous-spec", "", 200, "second"},
	} {
		code, text := update(c.query, c.auth)
		if got := db.View().ServiceByName("web").Spec.Task.RegistryAuth; code != c.code || got != c.want {
			t.Errorf("%s %s: %d %s, %s, want %d %s", c.query, c.auth, code, text, got, c.code, c.want)
		}
	}
}
