package cluster

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"reflect"
	"strconv"
	"strings"
	"testing"

	"github.com/moby/moby/api/types/swarm"

	"github.com/shoal-dev/shoal/internal/api/server"
	"github.com/shoal-dev/shoal/internal/shoal"
	"github.com/shoal-dev/shoal/internal/store"
)

type fakeState struct{ store *store.Store }

func (c fakeState) Store() (*store.Store, error) { return c.store, nil }

// newRouter serves the swarm's objects over a store in memory; ports are refused as the test says.
func newRouter(t testing.TB, checkPorts func(store.View, shoal.ServiceID, *shoal.EndpointSpec) error) (*server.Router, *store.Store) {
	t.Helper()
	db, err := store.Open(t.Context(), store.Config{Backend: store.NewMemory()})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- db.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		<-done //nolint:errcheck // ended by cancel
	})
	if checkPorts == nil {
		checkPorts = func(store.View, shoal.ServiceID, *shoal.EndpointSpec) error { return nil }
	}
	rt := server.NewRouter(slog.New(slog.DiscardHandler))
	state := fakeState{db}
	(&services{state, checkPorts}).Register(rt)
	(&tasks{state, func(s *shoal.Service, t *shoal.Task) bool { return s.SpecVersion != t.SpecVersion }}).Register(rt)
	(&nodes{state}).Register(rt)
	newSecrets(state).Register(rt)
	newConfigs(state).Register(rt)
	return rt, db
}

func call(t testing.TB, rt *server.Router, method, path, body string, out any) (int, string) {
	t.Helper()
	var reader io.Reader
	if body != "" {
		reader = bytes.NewBufferString(body)
	}
	w := httptest.NewRecorder()
	r := httptest.NewRequest(method, path, reader)
	r.Header.Set("Content-Type", "application/json")
	rt.ServeHTTP(w, r)
	if out != nil && w.Code < http.StatusBadRequest {
		if err := json.Unmarshal(w.Body.Bytes(), out); err != nil {
			t.Fatalf("%s %s: %v in %s", method, path, err, w.Body)
		}
	}
	var refusal struct{ Message string }
	_ = json.Unmarshal(w.Body.Bytes(), &refusal)
	return w.Code, refusal.Message
}

const plain = `{"Name":"web","TaskTemplate":{"ContainerSpec":{"Image":"img"}}`

func TestServiceLife(t *testing.T) {
	rt, db := newRouter(t, nil)
	var created swarm.ServiceCreateResponse
	if code, text := call(t, rt, "POST", "/services/create", plain+"}", &created); code != http.StatusCreated {
		t.Fatal(code, text)
	}
	var got swarm.Service
	if code, _ := call(t, rt, "GET", "/services/web?insertDefaults=true", "", &got); code != http.StatusOK || got.ID != created.ID {
		t.Fatal(code, got)
	}
	if got.Spec.UpdateConfig == nil || *got.Spec.Mode.Replicated.Replicas != 1 || got.Spec.EndpointSpec.Mode != swarm.ResolutionModeVIP {
		t.Errorf("defaults are missing: %+v", got.Spec)
	}
	version := strconv.FormatUint(got.Version.Index, 10)
	update := plain + `,"Mode":{"Replicated":{"Replicas":3}}}`
	if code, text := call(t, rt, "POST", "/services/web/update?version="+version, update, nil); code != http.StatusOK {
		t.Fatal(code, text)
	}
	if code, text := call(t, rt, "POST", "/services/web/update?version="+version, update, nil); code != http.StatusInternalServerError ||
		text != "rpc error: code = Unknown desc = update out of sequence" {
		t.Fatal(code, text)
	}
	s := db.View().Service(shoal.ServiceID(created.ID))
	if s.Spec.Replicas() != 3 || s.PreviousSpec.Replicas() != 1 || s.SpecVersion != 1 {
		t.Fatalf("after update: %+v", s)
	}
	version = strconv.FormatUint(s.Version, 10)
	if code, text := call(t, rt, "POST", "/services/web/update?rollback=previous&version="+version, plain+"}", nil); code != http.StatusOK {
		t.Fatal(code, text)
	}
	if s := db.View().Service(shoal.ServiceID(created.ID)); s.Spec.Replicas() != 1 || s.UpdateStatus.State != shoal.UpdateRollbackStarted {
		t.Fatalf("after rollback: %+v", s)
	}
	var list []swarm.Service
	if code, _ := call(t, rt, "GET", `/services?status=true&filters={"mode":{"replicated":true}}`, "", &list); code != http.StatusOK ||
		len(list) != 1 || list[0].ServiceStatus.DesiredTasks != 1 {
		t.Fatal(code, list)
	}
	if code, _ := call(t, rt, "DELETE", "/services/"+created.ID[:6], "", nil); code != http.StatusOK || len(db.View().Services()) != 0 {
		t.Fatal("not removed", code)
	}
}

// What an update changes of a service, while it runs and when it completes, does not make a client's next update fail; Docker's does.
func TestAnUpdatesProgressDoesNotPutTheNextOneOutOfSequence(t *testing.T) {
	rt, db := newRouter(t, nil)
	if code, text := call(t, rt, "POST", "/services/create", plain+"}", nil); code != http.StatusCreated {
		t.Fatal(code, text)
	}
	read := func() string { return strconv.FormatUint(db.View().ServiceByName("web").Version, 10) }
	progress := func(state shoal.UpdateState) {
		next := *db.View().ServiceByName("web")
		next.UpdateStatus = &shoal.UpdateStatus{State: state}
		if _, err := db.Commit(t.Context(), store.Changes{Puts: []store.Object{&next}}); err != nil {
			t.Fatal(err)
		}
	}
	three := plain + `,"Mode":{"Replicated":{"Replicas":3}}}`
	first := read()
	progress(shoal.UpdateCompleted)
	if code, text := call(t, rt, "POST", "/services/web/update?version="+first, three, nil); code != http.StatusOK {
		t.Error(code, text)
	}
	second := read()
	progress(shoal.UpdateUpdating)
	progress(shoal.UpdateCompleted)
	if code, text := call(t, rt, "POST", "/services/web/update?version="+first, three, nil); code != http.StatusInternalServerError {
		t.Error("a change of the spec would be overwritten unseen:", code, text)
	}
	if code, text := call(t, rt, "POST", "/services/web/update?rollback=previous&version="+second, plain+"}", nil); code != http.StatusOK {
		t.Error(code, text)
	}
	if code, text := call(t, rt, "POST", "/services/web/update?version=99999999", three, nil); code != http.StatusInternalServerError {
		t.Error("a version that does not exist yet:", code, text)
	}
}

// Command lines since Docker 29, ours among them, send "none" with every update that is no rollback.
func TestAnUpdateSaysThatItIsNoRollback(t *testing.T) {
	rt, db := newRouter(t, nil)
	if code, text := call(t, rt, "POST", "/services/create", plain+"}", nil); code != http.StatusCreated {
		t.Fatal(code, text)
	}
	version := strconv.FormatUint(db.View().ServiceByName("web").Version, 10)
	three := plain + `,"Mode":{"Replicated":{"Replicas":3}}}`
	if code, text := call(t, rt, "POST", "/services/web/update?rollback=none&version="+version, three, nil); code != http.StatusOK {
		t.Fatal(code, text)
	}
	if s := db.View().ServiceByName("web"); s.Spec.Replicas() != 3 {
		t.Errorf("after the update: %+v", s.Spec)
	}
	if code, text := call(t, rt, "POST", "/services/web/update?rollback=last&version="+version, three, nil); code != http.StatusBadRequest || text != "unrecognized rollback option last" {
		t.Error(code, text)
	}
}

func TestServiceRefusals(t *testing.T) {
	rt, db := newRouter(t, nil)
	if code, text := call(t, rt, "POST", "/services/create", plain+"}", nil); code != http.StatusCreated {
		t.Fatal(text)
	}
	image := `"TaskTemplate":{"ContainerSpec":{"Image":"img"}}`
	for _, c := range []struct {
		body string
		code int
		text string
	}{
		{plain + "}", 409, "rpc error: code = AlreadyExists desc = name conflicts with an existing object: service web already exists"},
		{`{"Name":"bad name",` + image + `}`, 400, "rpc error: code = InvalidArgument desc = name must be valid as a DNS name component"},
		{`{"Name":"-x",` + image + `}`, 400, "rpc error: code = InvalidArgument desc = name must be valid as a DNS name component"},
		{`{"Name":"i","TaskTemplate":{"ContainerSpec":{"Image":"BAD:image"}}}`, 400, `rpc error: code = InvalidArgument desc = ContainerSpec: "BAD:image" is not a valid repository/tag`},
		{`{"Name":"i","TaskTemplate":{"ContainerSpec":{"Image":"i"},"Placement":{"Constraints":["bogus"]}}}`, 500, "rpc error: code = Unknown desc = constraint expected one operator from ==, !="},
		{`{"Name":"i","TaskTemplate":{"ContainerSpec":{"Image":"i","Mounts":[{"Type":"bogus","Target":"/x"}]}}}`, 400, `invalid MountType: "bogus"`},
		{`{"Name":"i","TaskTemplate":{"ContainerSpec":{"Image":"i"},"Resources":{"Limits":{"MemoryBytes":1024}}}}`, 400, "rpc error: code = InvalidArgument desc = invalid memory value 1024: Must be at least 4MiB"},
		{`{"Name":"i",` + image + `,"UpdateConfig":{"Order":"bogus"}}`, 400, "unrecognized update order bogus"},
		{`{"Name":"i",` + image + `,"EndpointSpec":{"Mode":"bogus"}}`, 400, `invalid resolution mode: "bogus"`},
		{`{"Name":"i",` + image + `,"EndpointSpec":{"Mode":"dnsrr","Ports":[{"TargetPort":80}]}}`, 400, "rpc error: code = InvalidArgument desc = EndpointSpec: port published with ingress mode can't be used with dnsrr mode"},
		{`{"Name":"i",` + image + `,"Labels":{"shoal.publish.8080.allow":"10.0.0.0/8"}}`, 400, "rpc error: code = InvalidArgument desc = invalid label shoal.publish.8080.allow: the service does not publish port 8080/tcp"},
		{`{"Name":"i","TaskTemplate":{"ContainerSpec":{"Image":"i"},"Networks":[{"Target":"nosuch"}]}}`, 404, "network nosuch not found"},
	} {
		if code, text := call(t, rt, "POST", "/services/create", c.body, nil); code != c.code || text != c.text {
			t.Errorf("%s\n got %d %s\nwant %d %s", c.body, code, text, c.code, c.text)
		}
	}
	if n := len(db.View().Services()); n != 1 {
		t.Errorf("%d services after refusals", n)
	}
	if code, text := call(t, rt, "GET", "/services/nosuch", "", nil); code != 404 || text != "service nosuch not found" {
		t.Error(code, text)
	}
}

// TestSpecComesBackAsItWent sends a spec with every field set and wants the same one back.
func TestSpecComesBackAsItWent(t *testing.T) {
	var sent serviceRequest
	fill(reflect.ValueOf(&sent.ServiceSpec).Elem(), 0)
	sent.Mode = swarm.ServiceMode{GlobalJob: &swarm.GlobalJob{}}
	sent.TaskTemplate.PluginSpec, sent.TaskTemplate.NetworkAttachmentSpec, sent.TaskTemplate.Runtime = nil, nil, "container"
	sent.TaskTemplate.RestartPolicy.Condition = "any"
	for _, u := range []*swarm.UpdateConfig{sent.UpdateConfig, sent.RollbackConfig} {
		u.FailureAction, u.Order = "continue", "start-first"
	}
	sent.EndpointSpec.Mode = "vip"
	sent.EndpointSpec.Ports[0].Protocol, sent.EndpointSpec.Ports[0].PublishMode = "udp", "host"
	c := sent.TaskTemplate.ContainerSpec
	c.Mounts[0].Type = "volume"
	c.Mounts = append(c.Mounts, c.Mounts[0], c.Mounts[0])
	c.Mounts[1].Type, c.Mounts[2].Type = "bind", "tmpfs"
	for i := range c.Mounts {
		m := &c.Mounts[i]
		m.ImageOptions, m.ClusterOptions = nil, nil
		if m.Type != "volume" {
			m.VolumeOptions = nil
		}
		if m.Type != "bind" {
			m.BindOptions = nil
		}
		if m.Type != "tmpfs" {
			m.TmpfsOptions = nil
		}
	}
	c.Configs[0].Runtime, c.Isolation = nil, "default"
	for i := range sent.TaskTemplate.Resources.Reservations.GenericResources {
		sent.TaskTemplate.Resources.Reservations.GenericResources[i].DiscreteResourceSpec = nil
	}
	inside, err := fromAPIServiceSpec(sent)
	if err != nil {
		t.Fatal(err)
	}
	want, _ := json.MarshalIndent(sent.ServiceSpec, "", " ")
	got, _ := json.MarshalIndent(toAPIServiceSpec(inside), "", " ")
	if !bytes.Equal(want, got) {
		w, g := strings.Split(string(want), "\n"), strings.Split(string(got), "\n")
		for i := range w {
			if i >= len(g) || w[i] != g[i] {
				t.Fatalf("line %d: sent %s, came back %s", i, w[i], g[min(i, len(g)-1)])
			}
		}
	}
}

// fill sets every field of v to something.
func fill(v reflect.Value, depth int) {
	switch v.Kind() { //nolint:exhaustive // the kinds that our types have
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		fill(v.Elem(), depth+1)
	case reflect.Struct:
		if v.Type().PkgPath() == "net/netip" {
			v.Set(reflect.ValueOf(netip.MustParseAddr("192.0.2.1")))
			return
		}
		for _, field := range v.Fields() {
			if field.CanSet() {
				fill(field, depth+1)
			}
		}
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 1, 1))
		fill(v.Index(0), depth+1)
	case reflect.Map:
		v.Set(reflect.MakeMap(v.Type()))
		v.SetMapIndex(reflect.ValueOf("key"), reflect.ValueOf("value"))
	case reflect.String:
		v.SetString("text")
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Int, reflect.Int64:
		v.SetInt(7)
	case reflect.Uint8, reflect.Uint32, reflect.Uint64:
		v.SetUint(7)
	case reflect.Float32:
		v.SetFloat(0.5)
	}
}

func TestNodeRules(t *testing.T) {
	rt, db := newRouter(t, nil)
	_, err := db.Commit(t.Context(), store.Changes{Puts: []store.Object{
		&shoal.Node{ID: "m1", Role: shoal.RoleManager, Spec: shoal.NodeSpec{Role: shoal.RoleManager}, Manager: &shoal.ManagerStatus{MemberID: "memory"},
			Description: shoal.NodeDescription{Hostname: "n1"}, Status: shoal.NodeStatus{State: shoal.NodeReady}},
		&shoal.Node{ID: "w1", Role: shoal.RoleWorker, Spec: shoal.NodeSpec{Role: shoal.RoleWorker},
			Description: shoal.NodeDescription{Hostname: "n2"}, Status: shoal.NodeStatus{State: shoal.NodeReady}},
	}})
	if err != nil {
		t.Fatal(err)
	}
	var list []swarm.Node
	if code, text := call(t, rt, "GET", "/nodes", "", &list); code != 200 || len(list) != 2 || !list[0].ManagerStatus.Leader {
		t.Fatal(code, text, list)
	}
	for _, c := range []struct {
		method, path, body string
		code               int
		text               string
	}{
		{"GET", "/nodes/nosuch", "", 404, "node nosuch not found"},
		{"DELETE", "/nodes/w1", "", 400, "rpc error: code = FailedPrecondition desc = node w1 is not down and can't be removed"},
		{"DELETE", "/nodes/m1?force=1", "", 400, "rpc error: code = FailedPrecondition desc = node m1 is a cluster manager and is a member of the raft cluster. It must be demoted to worker before removal"},
		{"POST", "/nodes/m1/update?version=2", `{"Role":"worker","Availability":"active"}`, 400, "rpc error: code = FailedPrecondition desc = attempting to demote the last manager of the swarm"},
		{"POST", "/nodes/m1/update?version=2", `{"Role":"manager","Availability":"bogus"}`, 400, `invalid Availability: "bogus"`},
		{"GET", `/nodes?filters={"bogus":{"1":true}}`, "", 400, "invalid filter 'bogus'"},
		{"DELETE", "/nodes/w1?force=1", "", 200, ""},
	} {
		if code, text := call(t, rt, c.method, c.path, c.body, nil); code != c.code || text != c.text {
			t.Errorf("%s %s: got %d %s", c.method, c.path, code, text)
		}
	}
}

func TestSecretRules(t *testing.T) {
	rt, _ := newRouter(t, nil)
	for _, kind := range []string{"secret", "config"} {
		path := "/" + kind + "s"
		body := `{"Name":"s1","Labels":{},"Data":"cHc="}`
		var created swarm.SecretCreateResponse
		if code, text := call(t, rt, "POST", path+"/create", body, &created); code != 201 {
			t.Fatal(code, text)
		}
		if code, text := call(t, rt, "POST", path+"/create", body, nil); code != 409 || text != "rpc error: code = AlreadyExists desc = "+kind+" s1 already exists" {
			t.Error(code, text)
		}
		use := `{"Name":"user` + kind + `","TaskTemplate":{"ContainerSpec":{"Image":"i","` + strings.ToUpper(kind[:1]) + kind[1:] + `s":[{"` +
			strings.ToUpper(kind[:1]) + kind[1:] + `ID":"` + created.ID + `","File":{"Name":"f"}}]}}}`
		if code, text := call(t, rt, "POST", "/services/create", use, nil); code != 201 {
			t.Fatal(code, text)
		}
		if code, text := call(t, rt, "DELETE", path+"/s1", "", nil); code != 400 ||
			text != "rpc error: code = InvalidArgument desc = "+kind+" 's1' is in use by the following service: user"+kind {
			t.Error(code, text)
		}
		if code, _ := call(t, rt, "DELETE", "/services/user"+kind, "", nil); code != 200 {
			t.Error(code)
		}
		if code, text := call(t, rt, "DELETE", path+"/s1", "", nil); code != 204 {
			t.Error(code, text)
		}
	}
}
