package api

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"sync"

	"github.com/shoal-dev/shoal/internal/membership"
	"github.com/shoal-dev/shoal/internal/network"
	"github.com/shoal-dev/shoal/internal/shoal"
)

// doctor serves /shoal/doctor: what a node finds when it looks at its own networking, or, with all=1 on a manager, what every node
// finds.
type doctor struct {
	networks *network.Networks
	members  *membership.Membership
	remote   *remote
}

func (d *doctor) register(rt *router) {
	rt.handle("GET /shoal/doctor", d.diagnose)
}

func (d *doctor) diagnose(w http.ResponseWriter, r *http.Request) error {
	here := d.networks.Diagnose(r.Context())
	if !flag(r, "all") {
		return writeJSON(w, http.StatusOK, []shoal.Diagnosis{here})
	}
	db, err := d.members.Store()
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
		if n.ID == here.NodeID {
			all[i] = here
			continue
		}
		asking.Go(func() { //nolint:contextcheck // it is the request's
			found, err := d.ask(r.Context(), n.ID)
			if err != nil {
				found = shoal.Diagnosis{NodeID: n.ID, Problems: []string{"could not be asked: " + err.Error()}}
			}
			found.Hostname = n.Description.Hostname
			all[i] = found
		})
	}
	asking.Wait()
	return writeJSON(w, http.StatusOK, all)
}

// ask has another node look at itself.
func (d *doctor) ask(ctx context.Context, node shoal.ID) (shoal.Diagnosis, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://shoal/shoal/doctor", http.NoBody)
	if err != nil {
		return shoal.Diagnosis{}, err
	}
	resp, end, err := d.remote.ask(req, node)
	if err != nil {
		return shoal.Diagnosis{}, err
	}
	defer end()
	var found []shoal.Diagnosis
	if err := json.NewDecoder(resp.Body).Decode(&found); err != nil {
		return shoal.Diagnosis{}, fmt.Errorf("read answer: %w", err)
	}
	if len(found) != 1 {
		return shoal.Diagnosis{}, fmt.Errorf("read answer: %d diagnoses", len(found))
	}
	return found[0], nil
}
