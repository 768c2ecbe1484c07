package net

import (
	"fmt"
	"net/netip"
	"os"
	"slices"
	"testing"
	"text/tabwriter"
	"time"

	"github.com/shoal-dev/shoal/internal/shoal"
)

// crowdAddr is the nth address of a service of the crowd; those of one service follow each other.
func crowdAddr(service, n int) netip.Prefix {
	i := 4*service + n
	return netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 100, byte(i >> 8), byte(i)}), 16)
}

func crowdEndpoint(service, task int, network shoal.NetworkID) shoal.Endpoint {
	addr := crowdAddr(service, task)
	if network == ingressID {
		addr = netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 101, addr.Addr().As4()[2], addr.Addr().As4()[3]}), 16)
	}
	return shoal.Endpoint{TaskID: shoal.TaskID(fmt.Sprintf("c%d.%d", service, task)), NetworkID: network, NodeID: "n1", ServiceID: shoal.ServiceID(fmt.Sprint("c", service)), Name: fmt.Sprintf("c%d.%d", service, task),
		Addr: addr, MAC: shoal.MACFor(addr.Addr()), State: shoal.EndpointReady}
}

// crowd makes the table have so many services besides its own, with tasks on the other node. Every tenth is published.
func (s *bench) crowd(services, tasks int) {
	for i := range services {
		id := fmt.Sprint("c", i)
		entry := shoal.ServiceEntry{ID: shoal.ServiceID(id), Name: id, VIPs: map[shoal.NetworkID]netip.Prefix{overlayID: crowdAddr(i, 3)}}
		networks := []shoal.NetworkID{overlayID}
		if i%10 == 0 {
			entry.Ports = []shoal.MeshPort{{Port: shoal.Port{Protocol: shoal.TCP, Target: 80, Published: uint16(20_000 + i)}}}
			networks = append(networks, ingressID)
		}
		s.table.Services[shoal.ServiceID(id)] = entry
		for task := range tasks {
			for _, network := range networks {
				e := crowdEndpoint(i, task, network)
				s.table.Endpoints[e.Key()] = e
			}
		}
	}
}

// BenchmarkOneMoreEndpoint prints how long a node with ten containers takes to program one more endpoint, by how many there are, and how
// long to let go of it (which is what it takes to search the flows of each container, if there are any, for some that lead to it).
func BenchmarkOneMoreEndpoint(b *testing.B) {
	out := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	_, _ = fmt.Fprintln(out, "\nendpoints\tone more\t99%\tof the first\tone less")
	var first time.Duration
	for b.Loop() {
		for _, endpoints := range []int{100, 1_000, 10_000} {
			b.Run(fmt.Sprint(endpoints), func(b *testing.B) {
				s := newBench(b)
				s.push()
				for i := range 10 {
					s.task(fmt.Sprint("own", i), 0, byte(10+i), uint16(8080+i))
				}
				s.crowd(endpoints/3, 3)
				s.push()
				more, less := s.changes(200)
				if first == 0 {
					first = middle(more)
				}
				_, _ = fmt.Fprintf(out, "%d\t%v\t%v\t%.2f\t%v\n", endpoints, middle(more).Round(time.Microsecond), more[len(more)*99/100].Round(time.Microsecond),
					float64(middle(more))/float64(first), middle(less).Round(time.Microsecond))
			})
		}
	}
	if err := out.Flush(); err != nil {
		b.Error(err)
	}
}

func middle(sorted []time.Duration) time.Duration { return sorted[len(sorted)/2] }

// changes takes a published service's endpoint out and in again, on its overlay and on the mesh.
func (s *bench) changes(count int) (more, less []time.Duration) {
	s.Helper()
	delta := shoal.TableDelta{NodeID: "n0", DataPathPort: s.table.DataPathPort, Version: s.table.Version}
	for i := range count {
		delta.Version++
		delta.Endpoints, delta.RemovedEndpoints = map[shoal.EndpointKey]shoal.Endpoint{}, nil
		for _, network := range []shoal.NetworkID{overlayID, ingressID} {
			e := crowdEndpoint(10, 2, network)
			if i%2 == 0 {
				delta.RemovedEndpoints = append(delta.RemovedEndpoints, e.Key())
			} else {
				delta.Endpoints[e.Key()] = e
			}
		}
		began := time.Now()
		if _, err := s.nodes[0].Update(s.Context(), &delta); err != nil {
			s.Fatal(err)
		}
		if took := time.Since(began); i%2 == 0 {
			less = append(less, took)
		} else {
			more = append(more, took)
		}
	}
	slices.Sort(more)
	slices.Sort(less)
	return more, less
}

// BenchmarkVIPAmongServices prints what a virtual address costs against the direct way to its only task, by how many services there are.
func BenchmarkVIPAmongServices(b *testing.B) {
	for b.Loop() {
		for _, services := range []int{1, 1_000, 10_000} {
			b.Run(fmt.Sprint(services), func(b *testing.B) {
				s := newBench(b)
				s.push()
				s.task("near", 0, 11, 8081)
				caller := s.task("caller", 0, 12, 8082)
				s.crowd(services-1, 1)
				s.push()
				veth, bare := s.bare()
				direct := fmt.Sprintf("direct, %d services", services)
				paths := []*path{
					{name: "bare veth", enter: veth.Do, to: bare},
					{name: direct, enter: caller, to: netip.MustParseAddrPort("10.0.1.11:80")},
					{name: fmt.Sprintf("VIP, %d services", services), against: direct, enter: caller, to: netip.MustParseAddrPort("10.0.1.111:80")},
				}
				for range rounds {
					for _, p := range paths {
						p.measure(b)
					}
				}
				report(b, paths)
			})
		}
	}
}
