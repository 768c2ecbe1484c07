package cluster

import (
	"net/http"
	"testing"

	"github.com/moby/moby/api/types/swarm"

	"github.com/shoal-dev/shoal/internal/api/server/servertest"
	"github.com/shoal-dev/shoal/internal/shoal"
	"github.com/shoal-dev/shoal/internal/store"
)

// A null anywhere in a request is refused or passed over, but never dereferenced.
func TestNullsInRequestsAreSurvived(t *testing.T) {
	rt, db := newRouter(t, nil)
	if _, err := db.Commit(t.Context(), store.Changes{Puts: []store.Object{&shoal.Node{ID: "n1", Role: shoal.RoleManager}}}); err != nil {
		t.Fatal(err)
	}
	base := map[string]any{"Name": "a", "Role": "manager", "Availability": "active", "TaskTemplate": map[string]any{"ContainerSpec": map[string]any{"Image": "i"}}}
	for path, body := range map[string]any{
		"/services/create": swarm.ServiceSpec{}, "/secrets/create": swarm.SecretSpec{}, "/configs/create": swarm.ConfigSpec{},
		"/nodes/n1/update?version=1": swarm.NodeSpec{},
	} {
		for at, text := range servertest.Nulls(t, body, base) {
			func() {
				defer func() {
					if fault := recover(); fault != nil {
						t.Errorf("%s with null at %s: %v", path, at, fault)
					}
				}()
				if code, message := call(t, rt, "POST", path, string(text), nil); code >= http.StatusBadRequest && message == "" {
					t.Errorf("%s with null at %s: %d without a word", path, at, code)
				}
			}()
		}
	}
}
