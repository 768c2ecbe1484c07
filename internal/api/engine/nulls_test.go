package engine

import (
	"bytes"
	"context"
	"net/http"
	"net/http/httptest"
	"testing"

	apicontainer "github.com/moby/moby/api/types/container"
	apinetwork "github.com/moby/moby/api/types/network"
	apivolume "github.com/moby/moby/api/types/volume"

	"github.com/shoal-dev/shoal/internal/api/server"
	"github.com/shoal-dev/shoal/internal/api/server/servertest"
	"github.com/shoal-dev/shoal/internal/container"
	"github.com/shoal-dev/shoal/internal/shoal"
)

// anyNetwork makes every network.
type anyNetwork struct{ LocalNetworks }

func (anyNetwork) Create(_ context.Context, spec shoal.NetworkSpec) (shoal.Network, error) {
	return shoal.Network{Spec: spec}, nil
}

// {"HostConfig":{"Ulimits":[null]}} was a nil dereference.
func TestNullsInRequestsAreSurvived(t *testing.T) {
	handle := func(h server.Handler) func(*http.Request) error {
		return func(r *http.Request) error { return h(httptest.NewRecorder(), r) }
	}
	var count int
	for _, request := range []struct {
		body any
		read func(*http.Request) error
	}{
		{apicontainer.CreateRequest{}, func(r *http.Request) error {
			_, _, err := readCreateRequest(r, container.New(container.Config{}))
			return err
		}},
		{networkCreateRequest{}, handle((&networks{local: anyNetwork{}}).create)},
		{apinetwork.ConnectRequest{}, func(r *http.Request) error { return server.ReadJSON(r, &apinetwork.ConnectRequest{}) }},
		{apicontainer.ExecCreateRequest{}, func(r *http.Request) error { return server.ReadJSON(r, &apicontainer.ExecCreateRequest{}) }},
		{apivolume.CreateRequest{}, func(r *http.Request) error { return server.ReadJSON(r, &apivolume.CreateRequest{}) }},
	} {
		for at, body := range servertest.Nulls(t, request.body, map[string]any{"Image": "i", "Name": "n"}) {
			count++
			func() {
				defer func() {
					if fault := recover(); fault != nil {
						t.Errorf("%T with null at %s: %v", request.body, at, fault)
					}
				}()
				r := httptest.NewRequest(http.MethodPost, "/", bytes.NewReader(body))
				r.Header.Set("Content-Type", "application/json")
				err := request.read(r)
				if err != nil && server.Status(err) >= http.StatusInternalServerError {
					t.Errorf("%T with null at %s: %v", request.body, at, err)
				}
			}()
		}
	}
	if count < 300 {
		t.Errorf("only %d places of a null were found", count)
	}
}
