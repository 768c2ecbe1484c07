package api

import (
	"context"
	"encoding/json"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/shoal-dev/shoal/internal/allocator"
	"github.com/shoal-dev/shoal/internal/api/cluster"
	"github.com/shoal-dev/shoal/internal/api/engine"
	"github.com/shoal-dev/shoal/internal/api/server"
	"github.com/shoal-dev/shoal/internal/reconcile"
	"github.com/shoal-dev/shoal/internal/shoal"
	"github.com/shoal-dev/shoal/internal/store"
	"github.com/shoal-dev/shoal/internal/store/storetest"
)

// stateSource makes every node a manager.
type stateSource struct{ db *store.Store }

func (s stateSource) Store() (*store.Store, error) { return s.db, nil }

// noLocalNetworks is a node without networks of its own, on which every network can be created.
type noLocalNetworks struct{ engine.LocalNetworks }

func (noLocalNetworks) List() []shoal.Network { return nil }

func (noLocalNetworks) Create(_ context.Context, spec shoal.NetworkSpec) (shoal.Network, error) {
	return shoal.Network{Spec: spec}, nil
}

func (noLocalNetworks) Table() shoal.Table { return shoal.Table{} }

// FuzzNetworkCreate takes whatever body through to the network's allocation: it is refused clearly, or it gets subnets that are well
// within what was asked for, or says why not.
func FuzzNetworkCreate(f *testing.F) {
	for _, body := range []string{
		`{"Name":"a","Driver":"overlay"}`,
		`{"Name":"a","Driver":"overlay","EnableIPv6":true,"IPAM":{"Config":[{"Subnet":"fd00::/64"},{"Subnet":"10.1.0.0/24","Gateway":"10.1.0.9"}]}}`,
		`{"Name":"a","Driver":"overlay","IPAM":{"Config":[{"Subnet":"10.1.0.0/24","IPRange":"10.1.0.128/25","AuxiliaryAddresses":{"r":"10.1.0.2"}}]}}`,
		`{"Name":"a","Driver":"overlay","IPAM":{"Config":[{"Subnet":"10.1.0.0/24"},{"Subnet":"10.1.0.0/25"}]}}`,
		`{"Name":"a","Driver":"overlay","IPAM":{"Config":[{"Gateway":"10.1.0.9"}]}}`,
		`{"Name":"a","Driver":"overlay","IPAM":{"Config":[{"Subnet":"::ffff:10.1.0.0/120"}]}}`,
		`{"Name":"a","Driver":"overlay","IPAM":{"Config":[{"Subnet":"0.0.0.0/0"},{"Subnet":"255.255.255.255/32"}]}}`,
		`{"Name":"a","Driver":"overlay","EnableIPv6":true,"IPAM":{"Config":[{"Subnet":"::/0"}]}}`,
		`{"Name":"a","Driver":"bridge","Ingress":true}`, `{"Name":"a","ConfigOnly":true}`, `{"Name":"","Driver":null}`, `{"IPAM":{"Config":null}}`, `[]`, `{"Name":1}`, ``,
	} {
		f.Add([]byte(body))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		db := storetest.Open(t, store.NewMemory())
		h := server.New(slog.New(slog.DiscardHandler), engine.Resources(engine.Config{
			Networks: noLocalNetworks{}, ClusterNetworks: cluster.NewNetworks(stateSource{db}, allocator.Exhausted),
		})...)
		call := func(method, path, body string) (int, []byte) {
			w := httptest.NewRecorder()
			r := httptest.NewRequest(method, path, strings.NewReader(body))
			r.Header.Set("Content-Type", "application/json")
			h.ServeHTTP(w, r)
			return w.Code, w.Body.Bytes()
		}
		code, text := call("POST", "/networks/create", string(body))
		if code != http.StatusCreated {
			var refusal struct{ Message string }
			err := json.Unmarshal(text, &refusal)
			if fault := code < http.StatusBadRequest || code >= http.StatusInternalServerError && code != http.StatusNotImplemented; fault || err != nil || refusal.Message == "" {
				t.Fatalf("refused with %d %q", code, text)
			}
			return
		}
		for _, n := range db.View().Networks() {
			changes, err := allocator.New(allocator.Config{}).Reconcile(db.View(), reconcile.Key("network/"+n.ID))
			if err != nil {
				t.Fatal(err)
			}
			if _, err := db.Commit(t.Context(), changes); err != nil {
				t.Fatal(err)
			}
			allocated := db.View().Network(n.ID)
			if len(allocated.IPAM) == 0 && allocated.Err == "" {
				t.Fatal("nothing was allocated and nobody knows why")
			}
			for _, s := range allocated.IPAM {
				if !s.Subnet.Contains(s.Gateway) {
					t.Fatalf("gateway %s of %s", s.Gateway, s.Subnet)
				}
			}
			if code, text := call("GET", "/networks/"+string(n.ID), ""); code != http.StatusOK {
				t.Fatalf("inspect: %d %s", code, text)
			}
		}
	})
}
