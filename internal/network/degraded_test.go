package network

import (
	"errors"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/shoal-dev/shoal/internal/atomicfile"
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

// Another program on the port of the probes ended the daemon.
func TestProbesWaitForTheirPort(t *testing.T) {
	c := newCluster(t, 1)
	n := c.nodes[0]
	var other net.PacketConn
	err := n.ns.Do(func() (err error) {
		other, err = net.ListenPacket("udp4", ":7946")
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	c.run(t) // an error of Run fails the test
	within(t, 5*time.Second, "it is told of", func() bool { return strings.Contains(strings.Join(n.cfg.Quarantine.Problems(), "\n"), "7946") })
	if err := other.Close(); err != nil {
		t.Fatal(err)
	}
	within(t, 10*time.Second, "it is tried again", func() bool { return len(n.cfg.Quarantine.Problems()) == 0 })
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
