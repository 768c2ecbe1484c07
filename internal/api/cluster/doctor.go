package cluster

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"sync"

	"github.com/shoal-dev/shoal/internal/api/server"
	"github.com/shoal-dev/shoal/internal/fault"
	"github.com/shoal-dev/shoal/internal/shoal"
)

// doctor serves /shoal/doctor: the diagnosis of this node's networking or, with all=1 on a manager, that of every node.
type doctor struct {
	diagnose  func(context.Context) shoal.Diagnosis
	state     StateSource
	forwarder *Forwarder
}

func (d *doctor) Register(rt *server.Router) {
	rt.Handle("GET /shoal/doctor", d.serve)
}

func (d *doctor) serve(w http.ResponseWriter, r *http.Request) error {
	local := d.diagnose(r.Context())
	if !server.BoolParam(r, "all") {
		return server.WriteJSON(w, http.StatusOK, []shoal.Diagnosis{local})
	}
	db, err := d.state.Store()
	if err != nil {
		return err
	}
	nodes := db.View().Nodes()
	slices.SortFunc(nodes, func(a, b *shoal.Node) int {
		return cmp.Or(cmp.Compare(a.Description.Hostname, b.Description.Hostname), cmp.Compare(a.ID, b.ID))
	})
	all := make([]shoal.Diagnosis, len(nodes))
	var asking sync.WaitGroup
	for i, n := range nodes {
		if n.ID == local.NodeID {
			all[i] = local
			continue
		}
		asking.Go(func() { //nolint:contextcheck // the context is the request's
			var found shoal.Diagnosis
			err := fault.Contain(nil, "diagnosis of another node", func() (err error) {
				found, err = d.ask(r.Context(), n.ID)
				return err
			})
			if err != nil {
				found = shoal.Diagnosis{NodeID: n.ID, Problems: []string{"could not be asked: " + err.Error()}}
			}
			found.Hostname = n.Description.Hostname
			all[i] = found
		})
	}
	asking.Wait()
	return server.WriteJSON(w, http.StatusOK, all)
}

// ask gets the diagnosis of another node.
func (d *doctor) ask(ctx context.Context, node shoal.NodeID) (shoal.Diagnosis, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://shoal/shoal/doctor", http.NoBody)
	if err != nil {
		return shoal.Diagnosis{}, err
	}
	resp, release, err := d.forwarder.ask(req, node)
	if err != nil {
		return shoal.Diagnosis{}, err
	}
	defer release()
	var found []shoal.Diagnosis
	if err := json.NewDecoder(resp.Body).Decode(&found); err != nil {
		return shoal.Diagnosis{}, fmt.Errorf("read answer: %w", err)
	}
	if len(found) != 1 {
		return shoal.Diagnosis{}, fmt.Errorf("read answer: %d diagnoses", len(found))
	}
	return found[0], nil
}
