package net

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/vishvananda/netlink"

	"github.com/shoal-dev/shoal/internal/dataplane/netnstest"
	"github.com/shoal-dev/shoal/internal/shoal"
)

// BenchmarkSandbox prints what a container's networking costs: a sandbox with an endpoint on an overlay and one on the gateway bridge,
// alone and fifty at once, beside a bare namespace with a pair of interfaces; and the memory that the kernel holds for one.
func BenchmarkSandbox(b *testing.B) {
	const many = 50
	s := newBench(b)
	s.push()
	for b.Loop() {
		var serial, bare []time.Duration
		for i := range many {
			began := time.Now()
			s.up(i)
			serial = append(serial, time.Since(began))
			began = time.Now()
			s.bareSandbox()
			bare = append(bare, time.Since(began))
		}
		for i := range many {
			s.down(i)
		}
		before, began := kernelMemory(b), time.Now()
		var group errgroup.Group
		for i := range many {
			group.Go(func() error { return s.tryUp(i) })
		}
		if err := group.Wait(); err != nil {
			b.Fatal(err)
		}
		parallel, held := time.Since(began), kernelMemory(b)-before
		for i := range many {
			s.down(i)
		}
		fmt.Printf("\nsandbox: %.1f ms alone (bare: %.1f ms), %.1f ms each when fifty come at once; %d KiB of kernel memory\n\n",
			micro(serial)/1000, micro(bare)/1000, float64(parallel.Microseconds())/many/1000, held/many)
	}
}

func sandboxID(i int) string { return fmt.Sprintf("%012x%052x", 0xabc000+i, 0) }

func (s *bench) tryUp(i int) error {
	_, err := s.nodes[0].Up(s.Context(), shoal.SandboxSpec{ContainerID: sandboxID(i), Name: fmt.Sprint("box", i), Hostname: "h", Mode: "networks", TaskID: shoal.TaskID(fmt.Sprint("t", i)),
		Endpoints: []shoal.EndpointRequest{{Network: overlayID, Addr: netip.AddrFrom4([4]byte{10, 0, 1, byte(50 + i)})}}})
	return err
}

func (s *bench) up(i int) {
	s.Helper()
	if err := s.tryUp(i); err != nil {
		s.Fatal(err)
	}
}

func (s *bench) down(i int) {
	s.Helper()
	if err := s.nodes[0].Down(context.WithoutCancel(s.Context()), sandboxID(i)); err != nil {
		s.Fatal(err)
	}
}

// bareSandbox makes a namespace with one interface that has an address, and its other end here.
func (s *bench) bareSandbox() {
	s.Helper()
	ns := netnstest.New(s.B)
	err := s.spaces[0].Do(func() error {
		pair := &netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: fmt.Sprintf("bare%d", ns.Handle)}, PeerName: "eth0", PeerNamespace: netlink.NsFd(int(ns.Handle))}
		return netlink.LinkAdd(pair)
	})
	if err == nil {
		err = ns.Do(func() error { return give("eth0", "10.96.0.2/24") })
	}
	if err != nil {
		s.Fatal(err)
	}
}

// kernelMemory is what the kernel holds for itself, in KiB, as far as it tells.
func kernelMemory(b *testing.B) int {
	b.Helper()
	runtime.GC()
	text, err := os.ReadFile("/proc/meminfo")
	if err != nil {
		b.Fatal(err)
	}
	total := 0
	for line := range strings.Lines(string(text)) {
		var name string
		var size int
		if _, err := fmt.Sscan(line, &name, &size); err != nil {
			continue
		}
		switch name {
		case "Slab:", "Percpu:", "VmallocUsed:", "KernelStack:":
			total += size
		}
	}
	return total
}
