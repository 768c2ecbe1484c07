package network

import (
	"errors"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"github.com/shoal-dev/shoal/internal/atomicfile"
	"github.com/shoal-dev/shoal/internal/dataplane"
	"github.com/shoal-dev/shoal/internal/network/sandbox"
	"github.com/shoal-dev/shoal/internal/shoal"
)

// within waits until the condition holds.
func within(t *testing.T, limit time.Duration, what string, holds func() bool) {
	t.Helper()
	for end := time.Now().Add(limit); !holds(); {
		if time.Now().After(end) {
			t.Fatalf("not within %v: %s", limit, what)
		}
		<-time.After(20 * time.Millisecond)
	}
}

// A network that the kernel refuses kept the whole table from being acknowledged, and containers on it were left with the tasks to balance to that they had.
func TestANetworkThatCannotBeMadeDoesNotKeepTheOthersBack(t *testing.T) {
	c := newCluster(t, 1)
	c.service("web", "10.0.1.2", 8080)
	c.push(t)
	client := c.task(t, "client", 0, 1)
	c.task(t, "web", 0, 1)
	c.task(t, "web", 0, 2)
	c.push(t)
	n := c.nodes[0]
	lost, err := netns.GetFromPath(n.cfg.ExecRoot + "/netns/ov-netid") // the network works on in it, out of sight
	if err != nil {
		t.Fatal(err)
	}
	if err := n.Close(); err != nil {
		t.Fatal(err)
	}
	links, err := netlink.NewHandleAt(lost)
	if err != nil {
		t.Fatal(err)
	}
	defer links.Close()
	device, err := links.LinkByName("vx0")
	if err != nil {
		t.Fatal(err)
	}
	if err := links.LinkSetAlias(device, "another program's"); err != nil { // else the daemon would use it on
		t.Fatal(err)
	}
	if err := unix.Unmount(n.cfg.ExecRoot+"/netns/ov-netid", unix.MNT_DETACH); err != nil {
		t.Fatal(err)
	}
	n.start(t)
	count := func(who string) (count int) {
		for range 6 {
			if got, _, err := ask(client, "tcp4", "10.0.1.2:80"); err == nil && got == who {
				count++
			}
		}
		return count
	}
	if count("webtask1") == 0 {
		t.Fatal("the network does not work on")
	}
	table := c.table
	table.Version, table.NodeID, table.Endpoints = table.Version+1, shoal.NodeID(n.id), maps.Clone(table.Endpoints)
	for key, e := range table.Endpoints {
		if e.TaskID == "webtask1" {
			e.State = shoal.EndpointDraining
			table.Endpoints[key] = e
		}
	}
	delta := shoal.Difference(shoal.Table{}, table)
	delta.Full = true
	lagging, err := n.Update(t.Context(), &delta)
	if err == nil || !strings.Contains(err.Error(), "file exists") {
		t.Errorf("what the kernel refuses is not told: %v", err)
	}
	if len(lagging) > 0 {
		t.Errorf("networks lag: %v", lagging)
	}
	if count("webtask1") > 0 {
		t.Error("connections still go to a task that is about to stop")
	}
	if err := lost.Close(); err != nil {
		t.Fatal(err)
	}
}

// What the kernel has refused says on which networks connections may still go where they went before.
func TestNetworksLagWhoseBalancingWasRefused(t *testing.T) {
	n := newCluster(t, 1).nodes[0]
	table := shoal.Table{Version: 1, NodeID: "n", Networks: map[shoal.NetworkID]shoal.Network{"a": {ID: "a"}, "b": {ID: "b"},
		"mesh": {ID: "mesh", Spec: shoal.NetworkSpec{Ingress: true}}}}
	if err := n.Apply(t.Context(), table); err != nil {
		t.Fatal(err)
	}
	n.sandboxes.Add(&sandbox.Sandbox{Spec: shoal.SandboxSpec{ContainerID: "c"}, Endpoints: sandbox.Endpoints{{Overlay: "b"}, {Bridge: "docker0"}}})
	cause := errors.New("refused")
	for part, want := range map[string][]shoal.NetworkID{
		"overlay a": nil, "bridge docker0": nil, dataplane.PartIngress: nil, dataplane.PartWireGuard: nil, "sandbox d": nil,
		dataplane.PartPorts: {"mesh"}, "sandbox c": {"b"},
	} {
		if got := n.lagging(errors.Join(&dataplane.PartError{Part: part, Err: cause})); !slices.Equal(got, want) {
			t.Errorf("%s: %v lag, want %v", part, got, want)
		}
	}
	if got := n.lagging(errors.Join(&dataplane.PartError{Part: "sandbox c", Err: &dataplane.InterfaceError{Err: cause}})); len(got) > 0 {
		t.Errorf("interfaces: %v lag", got)
	}
	if got := n.lagging(cause); len(got) != 3 {
		t.Errorf("anything: %v lag", got)
	}
}

// The record of a network whose bridge could not be made stayed, and kept the name.
func TestANetworkThatCouldNotBeCreatedLeavesNothing(t *testing.T) {
	n := newCluster(t, 1).nodes[0]
	// A folder of the kernel's settings for all interfaces has this name, so that no interface can.
	spec := shoal.NetworkSpec{Name: "x", Options: map[string]string{"com.docker.network.bridge.name": "all"}}
	if _, err := n.Create(t.Context(), spec); err == nil {
		t.Fatal("it was created")
	}
	if net, err := n.Get("x"); err == nil {
		t.Errorf("it is there: %+v", net)
	}
	if problems := n.Problems(); len(problems) > 0 {
		t.Errorf("%q", problems)
	}
	spec.Options = nil
	if _, err := n.Create(t.Context(), spec); err != nil {
		t.Errorf("again: %v", err)
	}
}

// On a slow disk everybody waited for whoever made a network.
func TestASlowDiskKeepsNobodyFromReading(t *testing.T) {
	n := newCluster(t, 1).nodes[0]
	dir := n.cfg.DataRoot + "/network"
	flushing, goOn := make(chan struct{}), make(chan struct{})
	end := atomicfile.SetFailpoint(dir, func(step atomicfile.Step, _ string) error {
		if step == atomicfile.StepFlush {
			close(flushing)
			<-goOn
		}
		return nil
	})
	made := make(chan error, 1)
	go func() {
		_, err := n.Create(t.Context(), shoal.NetworkSpec{Name: "slow"})
		made <- err
	}()
	<-flushing
	read := make(chan int, 1)
	go func() { read <- len(n.List()) }()
	select {
	case <-read:
	case <-time.After(10 * time.Second):
		t.Error("reading waits for the disk")
	}
	if len(made) > 0 {
		t.Error("acknowledged before it was on the disk")
	}
	close(goOn)
	if err := <-made; err != nil {
		t.Error(err)
	}
	end()
	// What cannot be written, or whose record cannot be removed, is as if nobody had asked.
	full := errors.New("no space left on device")
	end = atomicfile.SetFailpoint(dir, func(atomicfile.Step, string) error { return full })
	if _, err := n.Create(t.Context(), shoal.NetworkSpec{Name: "other"}); !errors.Is(err, full) {
		t.Errorf("create: %v", err)
	}
	if err := n.Remove(t.Context(), "slow"); !errors.Is(err, full) {
		t.Errorf("remove: %v", err)
	}
	end()
	if _, err := n.Get("slow"); err != nil {
		t.Error(err)
	}
	if _, err := n.Get("other"); err == nil {
		t.Error("it is there")
	}
}
