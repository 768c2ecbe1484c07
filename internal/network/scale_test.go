package network

import (
	"context"
	"fmt"
	"math"
	"net/netip"
	"testing"
	"time"

	"github.com/shoal-dev/shoal/internal/dataplane/netnstest"
	"github.com/shoal-dev/shoal/internal/shoal"
)

// largeNetwork is a node with containers on a network that has very many endpoints.
type largeNetwork struct {
	*Networks
	sandboxes []shoal.Sandbox
}

// largeNetworkEndpoint is the task of a service, of which each has three, at an address that follows from both.
func largeNetworkEndpoint(service, task int) shoal.Endpoint {
	i := 4096 + 4*service + task
	addr := netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 1, byte(i >> 8), byte(i)}), 16)
	return shoal.Endpoint{TaskID: shoal.TaskID(fmt.Sprint("t", i)), NetworkID: "netid", NodeID: "far", ServiceID: shoal.ServiceID(fmt.Sprint("s", service)), Name: fmt.Sprint("s", service, ".", task),
		Addr: addr, MAC: shoal.MACFor(addr.Addr()), State: shoal.EndpointReady}
}

func largeNetworkVIP(service int) netip.Prefix {
	return largeNetworkEndpoint(service, 3).Addr
}

func newLargeNetwork(t *testing.T, endpoints, containers int) *largeNetwork {
	ns, dir := netnstest.New(t), t.TempDir()
	c := &largeNetwork{}
	err := ns.Do(func() (err error) {
		c.Networks, err = New(Config{Log: discard(), DataRoot: dir + "/data", ExecRoot: dir + "/exec", Quarantine: newQuarantine(dir), ResolvConf: dir + "/none"})
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		for i := range containers {
			if err := c.Down(context.WithoutCancel(t.Context()), fmt.Sprintf("%012d", i)); err != nil {
				t.Error(err)
			}
		}
		if err := c.Apply(context.WithoutCancel(t.Context()), shoal.Table{}); err != nil {
			t.Error(err)
		}
		_ = c.Close()
	})
	table := shoal.Table{NodeID: "self", Services: map[shoal.ServiceID]shoal.ServiceEntry{}, Endpoints: map[shoal.EndpointKey]shoal.Endpoint{},
		Peers: map[shoal.NodeID]shoal.Peer{"self": {NodeID: "self", DataAddr: netip.MustParseAddr("127.0.0.1")}, "far": {NodeID: "far", DataAddr: netip.MustParseAddr("127.0.0.2")}},
		Networks: map[shoal.NetworkID]shoal.Network{"netid": {ID: "netid", VNI: 4097, Spec: shoal.NetworkSpec{Name: "net", Driver: "overlay"},
			IPAM: []shoal.Subnet{{Subnet: netip.MustParsePrefix("10.1.0.0/16")}}}}}
	for i := range endpoints / 3 {
		id := fmt.Sprint("s", i)
		table.Services[shoal.ServiceID(id)] = shoal.ServiceEntry{ID: shoal.ServiceID(id), Name: id, VIPs: map[shoal.NetworkID]netip.Prefix{"netid": largeNetworkVIP(i)}}
		for task := range 3 {
			e := largeNetworkEndpoint(i, task)
			table.Endpoints[e.Key()] = e
		}
	}
	if err := c.Apply(t.Context(), table); err != nil {
		t.Fatal(err)
	}
	for i := range containers {
		sandbox, err := c.Up(t.Context(), shoal.SandboxSpec{ContainerID: fmt.Sprintf("%012d", i), Mode: "networks", TaskID: "x",
			Endpoints: []shoal.EndpointRequest{{Network: "netid", Addr: netip.AddrFrom4([4]byte{10, 1, 1, byte(1 + i)})}}})
		if err != nil {
			t.Fatal(err)
		}
		c.sandboxes = append(c.sandboxes, sandbox)
	}
	return c
}

// timeOneMoreEndpoint takes an endpoint of a service out and returns the time that it takes to bring it in again.
func (c *largeNetwork) timeOneMoreEndpoint(t *testing.T) time.Duration {
	t.Helper()
	e := largeNetworkEndpoint(7, 2)
	less := shoal.TableDelta{Version: c.directory.Table().Version + 1, NodeID: "self", RemovedEndpoints: []shoal.EndpointKey{e.Key()}}
	if _, err := c.Update(t.Context(), &less); err != nil {
		t.Fatal(err)
	}
	more := shoal.TableDelta{Version: c.directory.Table().Version + 1, NodeID: "self", Endpoints: map[shoal.EndpointKey]shoal.Endpoint{e.Key(): e}}
	began := time.Now()
	if _, err := c.Update(t.Context(), &more); err != nil {
		t.Fatal(err)
	}
	return time.Since(began)
}

// TestOneMoreEndpointAmongTenThousand asserts that to program an endpoint takes no longer because there are others. How long it takes depends
// on the machine and on what else it does, so two networks are timed in turn and only the best of their times are compared. Further
// rounds make up for a busy machine, but not for work that grows with the number of endpoints: no round is without it.
func TestOneMoreEndpointAmongTenThousand(t *testing.T) {
	const attempts, rounds, most = 10, 10, 2
	few, many := newLargeNetwork(t, 99, 10), newLargeNetwork(t, 9_999, 10)
	bestOfFew, bestOfMany := time.Duration(math.MaxInt64), time.Duration(math.MaxInt64)
	for range attempts {
		for range rounds {
			bestOfFew = min(bestOfFew, few.timeOneMoreEndpoint(t))
			bestOfMany = min(bestOfMany, many.timeOneMoreEndpoint(t))
		}
		t.Logf("best time among 99 endpoints %v, among 9,999 %v", bestOfFew, bestOfMany)
		if bestOfMany <= most*bestOfFew {
			return
		}
	}
	t.Errorf("one more endpoint among ten thousand takes more than %d times what it takes among a hundred", most)
}
