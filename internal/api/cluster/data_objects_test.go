package cluster

import (
	"fmt"
	"strings"
	"testing"

	"github.com/moby/moby/api/types/swarm"

	"github.com/shoal-dev/shoal/internal/shoal"
)

// The data of a secret or config changes only when all that use it follow; then they refer to the new generation, and their
// previous spec to the old one.
func TestFollowersOfASecretRoll(t *testing.T) {
	for _, kind := range []string{"Secret", "Config"} {
		t.Run(kind, func(t *testing.T) {
			rt, db := newRouter(t, nil)
			path := "/" + strings.ToLower(kind) + "s"
			must := func(method, path, body string, out any) {
				t.Helper()
				if code, text := call(t, rt, method, path, body, out); code >= 400 {
					t.Fatalf("%s %s: %d %s", method, path, code, text)
				}
			}
			update := func(data string) (int, string) {
				t.Helper()
				var o swarm.Secret
				must("GET", path+"/s1", "", &o)
				return call(t, rt, "POST", fmt.Sprintf("%s/s1/update?version=%d", path, o.Version.Index), `{"Name":"s1","Labels":{"k":"v"},"Data":"`+data+`"}`, nil)
			}
			var created swarm.SecretCreateResponse
			must("POST", path+"/create", `{"Name":"s1","Data":"b25l"}`, &created)
			const onlyLabels = "rpc error: code = InvalidArgument desc = only updates to Labels are allowed"
			if code, text := update("dHdv"); code != 400 || text != onlyLabels {
				t.Errorf("without users: %d %s", code, text)
			}
			service := func(name, follow string) {
				t.Helper()
				must("POST", "/services/create", fmt.Sprintf(`{"Name":%q,"Labels":{%q:%q},"TaskTemplate":{"ContainerSpec":{"Image":"i","%[4]ss":[{"%[4]sID":%[5]q,"File":{"Name":"f"}}]}}}`,
					name, shoal.LabelFollow, follow, kind, created.ID), nil)
			}
			service("follows", "true")
			service("stays", "false")
			if code, text := update("dHdv"); code != 400 || text != onlyLabels {
				t.Errorf("with a user that does not follow: %d %s", code, text)
			}
			must("DELETE", "/services/stays", "", nil)
			if code, text := update("dHdv"); code != 200 {
				t.Fatalf("with followers only: %d %s", code, text)
			}
			s := db.View().ServiceByName("follows")
			generation := func(spec *shoal.ServiceSpec) uint64 {
				c := spec.Task.Container
				return append(c.Secrets, c.Configs...)[0].Generation
			}
			if generation(&s.Spec) != 1 || generation(s.PreviousSpec) != 0 || s.SpecVersion != 1 {
				t.Errorf("the service: %+v", s)
			}
			o := db.View().Secret(created.ID)
			if kind == "Config" {
				o = (*shoal.Secret)(db.View().Config(created.ID))
			}
			if string(o.DataOf(0)) != "one" || string(o.DataOf(1)) != "two" || o.Labels["k"] != "v" {
				t.Errorf("%+v", o)
			}
			if code, text := update(""); code != 200 { // only labels
				t.Errorf("%d %s", code, text)
			}
			if now := db.View().ServiceByName("follows"); now.SpecVersion != 1 {
				t.Errorf("new labels alone made the service roll: %+v", now)
			}
		})
	}
}
