package network

import (
	"context"
	"net/netip"
	"strings"
	"testing"

	"github.com/shoal-dev/shoal/internal/dataplane/netnstest"
	"github.com/shoal-dev/shoal/internal/shoal"
)

// staleAttacher grants an address, and then a table arrives that was made before it did.
type staleAttacher struct {
	n     *node
	stale shoal.Table
}

func (a *staleAttacher) Attach(_ context.Context, network, _ string, _ netip.Addr, _ []string) (shoal.TaskNetwork, shoal.TaskID, error) {
	return shoal.TaskNetwork{NetworkID: shoal.NetworkID(network), Addresses: []netip.Prefix{netip.MustParsePrefix("10.0.1.50/24")}}, "attachment", nil
}

func (a *staleAttacher) Detach(ctx context.Context, _ shoal.TaskID) error {
	return a.n.Apply(ctx, a.stale)
}

func TestTableMadeBeforeAnAttachmentDoesNotTakeItsNetwork(t *testing.T) {
	c := newCluster(t, 1)
	n := c.nodes[0]
	c.push(t)
	with, without := c.table, c.table
	with.NodeID, without.NodeID = shoal.NodeID(n.id), shoal.NodeID(n.id)
	without.Networks = map[shoal.NetworkID]shoal.Network{"ingressid": c.table.Networks["ingressid"]}
	n.Networks.cfg.Attacher = &staleAttacher{n, without}
	id := strings.Repeat("e", 64)
	for range 3 {
		if err := n.Apply(t.Context(), with); err != nil {
			t.Fatal(err)
		}
		sandbox, err := n.Up(t.Context(), shoal.SandboxSpec{ContainerID: id, Name: "c", Mode: "networks", Endpoints: []shoal.EndpointRequest{{Network: "netid"}}})
		if err != nil {
			t.Fatal(err)
		}
		if err := n.Apply(t.Context(), without); err != nil {
			t.Fatal(err)
		}
		// It can still speak to itself by the overlay's address, and finds itself by name.
		enter := func(f func() error) error { return netnstest.At(sandbox.Netns, f) }
		listen(t, enter, "itself")
		if who, _, err := ask(enter, "tcp4", "10.0.1.50:80"); err != nil || who != "itself" {
			t.Errorf("%q answers: %v", who, err)
		}
		if err := n.Down(t.Context(), id); err != nil {
			t.Fatal(err)
		}
	}
}
