package agent

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/shoal-dev/shoal/internal/shoal"
)

// Templates that refer to other secrets and configs failed: "function not defined".
func TestTemplatesReferToSecretsConfigsAndEnvironment(t *testing.T) {
	c := &shoal.ContainerSpec{
		Secrets: []shoal.SecretReference{{ID: "s", Name: "password", Target: "pw"}},
		Configs: []shoal.ConfigReference{{ID: "c", Name: "plain", Target: "/plain"}, {ID: "t", Name: "filled", Target: "/filled"}, {ID: "r", Name: "runtime", Target: "run", Runtime: true}},
	}
	golang := &shoal.Driver{Name: "golang"}
	deps := Dependencies{
		Secrets: map[shoal.SecretID]shoal.Secret{"s": {Data: []byte("hush")}},
		Configs: map[shoal.ConfigID]shoal.Config{"c": {Data: []byte("{{raw}}")}, "t": {Templating: golang}, "r": {}},
	}
	task := &shoal.Task{ID: "task", ServiceName: "web", Spec: shoal.TaskSpec{Container: c}}
	for template, want := range map[string]string{
		`{{.Service.Name}} {{secret "pw"}} {{config "/plain"}} {{env "A"}}{{env "NONE"}}`: "web hush {{raw}} 1=2",
		`{{secret "password"}}`: "error: secret target password not found",
		`{{config "run"}}`:      "error: config target run not found",
		`{{nosuch}}`:            "error: function \"nosuch\" not defined",
	} {
		filled := deps.Configs["t"]
		filled.Data = []byte(template)
		deps.Configs["t"] = filled
		got, err := files(c, deps, (&Engine{}).payloadExpander(task, deps, []string{"A=1=2", "B"}))
		if why, fails := strings.CutPrefix(want, "error: "); fails {
			if err == nil || !strings.Contains(err.Error(), why) {
				t.Errorf("%s: %v, want %s", template, err, why)
			}
			continue
		}
		if err != nil || len(got) != 3 || string(got[2].Data) != want {
			t.Errorf("%s: %+v, %v", template, got, err)
		}
	}
}

// A service on the network host was on the default bridge; driver options of its networks were dropped.
func TestNetworksOfATask(t *testing.T) {
	task := &shoal.Task{Spec: shoal.TaskSpec{Container: &shoal.ContainerSpec{}, Networks: []shoal.NetworkAttachmentSpec{{Target: "host"}}}}
	if got, err := sandbox(task, Dependencies{}); err != nil || got.Mode != "host" {
		t.Errorf("%+v, %v", got, err)
	}
	task.Networks = []shoal.TaskNetwork{{NetworkID: "n", Addresses: []netip.Prefix{netip.MustParsePrefix("10.0.1.5/24")}}}
	task.Spec.Networks = []shoal.NetworkAttachmentSpec{{Target: "n", DriverOpts: map[string]string{shoal.OptionInterfaceName: "front0"}}}
	if got, err := sandbox(task, Dependencies{}); err != nil || got.Endpoints[0].DriverOpts[shoal.OptionInterfaceName] != "front0" {
		t.Errorf("%+v, %v", got, err)
	}
}
