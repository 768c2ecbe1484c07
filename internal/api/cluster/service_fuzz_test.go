package cluster

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/shoal-dev/shoal/internal/allocator"
	"github.com/shoal-dev/shoal/internal/api/server"
	"github.com/shoal-dev/shoal/internal/orchestrator"
	"github.com/shoal-dev/shoal/internal/reconcile"
	"github.com/shoal-dev/shoal/internal/shoal"
	"github.com/shoal-dev/shoal/internal/store"
)

// badSpecs is bodies of services that cannot run, with Docker's words for it where it has some.
func badSpecs() map[string]string {
	in := func(container string) string {
		return `{"Name":"a","TaskTemplate":{"ContainerSpec":{"Image":"i",` + container + `}}}`
	}
	return map[string]string{
		in(`"Ulimits":[null]`):                                                         "null in a list",
		in(`"Secrets":[null]`):                                                         "null in a list",
		in(`"Env":["A={{.B}}"]`):                                                       "can't evaluate field B",
		in(`"Hostname":"{{"`):                                                          "expand",
		in(`"Mounts":[{"Type":"volume","Target":"rel"}]`):                              "invalid mount target, must be an absolute path: rel",
		in(`"Mounts":[{"Type":"bind","Target":"/x"}]`):                                 "invalid bind mount source, must be an absolute path: ",
		in(`"Mounts":[{"Type":"tmpfs","Source":"s","Target":"/x"}]`):                   "invalid tmpfs source, source must be empty",
		in(`"Mounts":[{"Type":"tmpfs","Target":"/x"},{"Type":"tmpfs","Target":"/x"}]`): "ContainerSpec: duplicate mount point: /x",
		in(`"Secrets":[{"SecretName":"s"}]`):                                           "invalid SecretReference s, no target specified",
		in(`"Secrets":[{"SecretName":"s","File":{"Name":""}}]`):                        "malformed secret reference",
		in(`"Secrets":[{"SecretName":"s","File":{"Name":"f"}},{"SecretName":"r","File":{"Name":"f"}}]`):                      "secret references 's' and 'r' have a conflicting target: 'f'",
		in(`"Configs":[{"ConfigName":"s","File":{"Name":"f","UID":"root"}}]`):                                                `config reference 's': "root" is no numeric user or group`,
		in(`"Configs":[{"ConfigName":"s","ConfigID":"x","File":{"Name":"f"}}]`):                                              "config not found: s",
		in(`"Ulimits":[{"Name":"nofile","Soft":7,"Hard":3}]`):                                                                "ulimit soft limit must be less than or equal to hard limit: 7 > 3",
		in(`"Healthcheck":{"Test":["CMD","true"],"Interval":-1}`):                                                            "Interval in Healthcheck cannot be less than 1ms",
		in(`"Healthcheck":{"Retries":-1}`):                                                                                   "Retries in Healthcheck cannot be negative",
		in(`"Isolation":"hyperv"`):                                                                                           "invalid isolation mode",
		`{"Name":"a","TaskTemplate":{}}`:                                                                                     "TaskSpec: missing runtime",
		`{"Name":"a","TaskTemplate":{"ContainerSpec":{"Image":"i"}},"Mode":{"Replicated":{"Replicas":9223372036854775808}}}`: "number of tasks must be 131072 or fewer",
		`{"Name":"a","TaskTemplate":{"ContainerSpec":{"Image":"i"}},"Mode":{"Replicated":{},"Global":{}}}`:                   "must specify only one service mode",
		`{"Name":"a","TaskTemplate":{"ContainerSpec":{"Image":"i"},"RestartPolicy":{"Condition":"never"}}}`:                  `invalid RestartCondition: "never"`,
		`{"Name":"a","TaskTemplate":{"ContainerSpec":{"Image":"i"}},"UpdateConfig":{"MaxFailureRatio":2}}`:                   "TaskSpec: update-maxfailureratio cannot be less than 0 or bigger than 1",
		`{"Name":"a","TaskTemplate":{"ContainerSpec":{"Image":"i"}},"EndpointSpec":{"Ports":[{"TargetPort":80,"PublishedPort":80},{"TargetPort":81,"PublishedPort":80}]}}`: "EndpointSpec: duplicate published ports provided",
		`{"Name":"a","TaskTemplate":{"ContainerSpec":{"Image":"i"},"Resources":{"SwapBytes":1}}}`:                                                                          "swap limit requires a memory limit",
		`{"Name":"a","TaskTemplate":{"ContainerSpec":{"Image":"i"},"Resources":{"MemorySwappiness":101}}}`:                                                                 "valid memory swappiness range is 0-100",
		`{"Name":"a","TaskTemplate":{"ContainerSpec":{"Image":"i","Privileges":{"CredentialSpec":{"File":"f"}}}}}`:                                                         "credential specs are of Windows",
		`{"Name":"a","TaskTemplate":{"ContainerSpec":{"Image":"i","Privileges":{"SELinuxContext":{"User":"u"}}}}}`:                                                         "SELinux labels are not supported",
		`{"Name":"a","TaskTemplate":{"ContainerSpec":{"Image":"i","Privileges":{"AppArmor":{"Mode":"custom"}}}}}`:                                                          `unknown AppArmor mode "custom"`,
		`{"Name":"a","TaskTemplate":{"ContainerSpec":{"Image":"i"},"Networks":[{"Target":"host"},{"Target":"none"}]}}`:                                                     "a service on network \"host\" can be on no other",
		`{"Name":"a","TaskTemplate":{"ContainerSpec":{"Image":"i"},"Networks":[{"Target":"host"}]},"EndpointSpec":{"Ports":[{"TargetPort":80}]}}`:                          "cannot be published in ingress mode",
		`[]`: "", `null`: "", `{"Name":7}`: "", `{`: "", ``: "",
	}
}

func TestSpecsThatCannotRunAreRefused(t *testing.T) {
	rt, db := newRouter(t, nil)
	for body, want := range badSpecs() {
		code, text := call(t, rt, "POST", "/services/create", body, nil)
		if code != http.StatusBadRequest || !strings.Contains(text, want) || text == "" {
			t.Errorf("%s: %d %q, want %q", body, code, text, want)
		}
	}
	if n := len(db.View().Services()); n != 0 {
		t.Errorf("%d services were made", n)
	}
}

// FuzzService creates a service with whatever body and updates one with it: refused clearly, or the planners can go on with it.
func FuzzService(f *testing.F) {
	for body := range badSpecs() {
		f.Add([]byte(body))
	}
	for _, body := range []string{
		`{"Name":"a","TaskTemplate":{"ContainerSpec":{"Image":"i","Env":["S={{.Task.Slot}}"]},"ForceUpdate":1},"Mode":{"Replicated":{"Replicas":3}}}`,
		`{"Name":"a","TaskTemplate":{"ContainerSpec":{"Image":"i"}},"Mode":{"ReplicatedJob":{"MaxConcurrent":0,"TotalCompletions":5}}}`,
		`{"Name":"a","TaskTemplate":{"ContainerSpec":{"Image":"i"}},"Mode":{"GlobalJob":{}}}`,
		`{"Name":"a","Labels":{"shoal.ready.tcp":":80","shoal.depends-on":"a,a"},"TaskTemplate":{"ContainerSpec":{"Image":"i"},"Placement":{"Constraints":["node.role==worker"],"Preferences":[{}]}}}`,
	} {
		f.Add([]byte(body))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		rt, db := newRouter(t, allocator.CheckPorts)
		if code, text := call(t, rt, "POST", "/services/create", `{"Name":"a","TaskTemplate":{"ContainerSpec":{"Image":"first"}}}`, nil); code != http.StatusCreated {
			t.Fatal(text)
		}
		path := fmt.Sprintf("/services/a/update?version=%d", db.View().ServiceByName("a").Version)
		answered(t, rt, path, body)
		answered(t, rt, path, body) // the version is no longer the current one, or the body is bad still
		plan(t, db)
		if code, text := call(t, rt, "DELETE", "/services/a", "", nil); code != http.StatusOK {
			t.Fatal(text)
		}
		answered(t, rt, "/services/create", body)
		plan(t, db)
	})
}

// answered sends a body; what is refused is so clearly.
func answered(t *testing.T, rt *server.Router, path string, body []byte) {
	t.Helper()
	code, text := call(t, rt, "POST", path, string(body), nil)
	fault := code >= http.StatusInternalServerError && code != http.StatusNotImplemented && !strings.HasPrefix(text, "rpc error: code = Unknown")
	if fault || code >= http.StatusBadRequest && text == "" {
		t.Fatalf("%s: refused with %d %q", path, code, text)
	}
}

// plan lets the planners work on what was accepted.
func plan(t *testing.T, db *store.Store) {
	t.Helper()
	for _, s := range db.View().Services() {
		if s.Spec.Replicas() > 100 || s.Spec.Mode.ReplicatedJob != nil { // slow, not wrong
			continue
		}
		changes, err := orchestrator.New(orchestrator.Config{}).Reconcile(db.View(), reconcile.Key(s.ID))
		if err != nil {
			t.Fatal(err)
		}
		v := db.View().With(changes)
		if changes, err = allocator.New(allocator.Config{}).Reconcile(v, reconcile.Key("service/"+s.ID)); err != nil {
			t.Fatal(err)
		}
		v = v.With(changes)
		toAPIService(v.Service(s.ID))
		for _, task := range v.TasksOfService(s.ID) {
			if task.Spec.Container == nil {
				t.Fatal("a task without a container")
			}
			if _, err := shoal.ReadyCheckOf(task.Labels); err != nil {
				t.Fatal(err)
			}
		}
	}
}
