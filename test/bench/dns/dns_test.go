// Package dns measures shoal's resolver against CoreDNS on the same names, one after the other in the same run. It is a module of its own,
// so that the product does not depend on CoreDNS.
package dns

import (
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coredns/caddy"
	_ "github.com/coredns/coredns/core/dnsserver" // the server type
	_ "github.com/coredns/coredns/plugin/bind"    // to loopback only
	_ "github.com/coredns/coredns/plugin/hosts"   // names from a file
	"github.com/miekg/dns"

	shoal "github.com/shoal-dev/shoal/internal/dns"
)

const (
	names   = 10000
	clients = 16
	length  = 3 * time.Second // of a round
	rounds  = 3
)

func name(i int) string { return fmt.Sprintf("service%d.example", i) }

func addr(i int) netip.Addr { return netip.AddrFrom4([4]byte{10, 1, byte(i >> 8), byte(i)}) }

// startShoal serves the names from a zone and tells where.
func startShoal(b *testing.B) string {
	zone, entries := shoal.NewZone(), map[string]shoal.Entry{}
	for i := range names {
		entries[name(i)] = shoal.Entry{Names: []string{name(i)}, Addrs: []netip.Addr{addr(i)}}
	}
	zone.Update(entries, nil)
	log := slog.New(slog.DiscardHandler)
	r, err := shoal.Open(shoal.Config{Log: log, Enter: func(f func() error) error { return f() },
		Forwarder: shoal.NewForwarder(shoal.ForwarderConfig{Log: log, Dial: net.Dial})})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = r.Close() })
	r.Set(&shoal.Scope{Zones: []*shoal.Zone{zone}})
	udp, _ := r.Ports()
	return fmt.Sprintf("%s:%d", shoal.ResolverAddr, udp)
}

// startCoreDNS serves the names from a hosts file and tells where.
func startCoreDNS(b *testing.B) string {
	var hosts strings.Builder
	for i := range names {
		fmt.Fprintf(&hosts, "%s %s\n", addr(i), name(i))
	}
	file := filepath.Join(b.TempDir(), "hosts")
	if err := os.WriteFile(file, []byte(hosts.String()), 0o600); err != nil {
		b.Fatal(err)
	}
	free, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	port := free.LocalAddr().(*net.UDPAddr).Port
	_ = free.Close()
	caddy.Quiet = true
	instance, err := caddy.Start(caddy.CaddyfileInput{ServerTypeName: "dns", Contents: fmt.Appendf(nil, ".:%d {\n bind 127.0.0.1\n hosts %s {\n reload 0\n }\n}\n", port, file)})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = instance.Stop() })
	return fmt.Sprintf("127.0.0.1:%d", port)
}

// load asks for names as fast as answers come and tells how long each took.
func load(b *testing.B, server string, queries [][]byte) []time.Duration {
	var all []time.Duration
	var mu sync.Mutex // guards all
	var running sync.WaitGroup
	end := time.Now().Add(length)
	for c := range clients {
		running.Go(func() {
			conn, err := net.Dial("udp4", server)
			if err != nil {
				b.Error(err)
				return
			}
			defer conn.Close()
			var took []time.Duration
			buf := make([]byte, 512)
			for i := c; time.Now().Before(end); i += clients {
				start := time.Now()
				_ = conn.SetDeadline(start.Add(time.Second))
				if _, err = conn.Write(queries[i%names]); err == nil {
					_, err = conn.Read(buf)
				}
				if err != nil || buf[7] != 1 { // one answer
					b.Errorf("%s: %v, %d answers", name(i%names), err, buf[7])
					return
				}
				took = append(took, time.Since(start))
			}
			mu.Lock()
			all = append(all, took...)
			mu.Unlock()
		})
	}
	running.Wait()
	slices.Sort(all)
	return all
}

func BenchmarkResolvers(b *testing.B) {
	servers := map[string]string{"shoal": startShoal(b), "coredns": startCoreDNS(b)}
	queries := make([][]byte, names) // made before, so that only the asking counts
	for i := range queries {
		var err error
		if queries[i], err = new(dns.Msg).SetQuestion(dns.Fqdn(name(i)), dns.TypeA).Pack(); err != nil {
			b.Fatal(err)
		}
	}
	for range b.N {
		rate, p99 := map[string]float64{}, map[string]time.Duration{}
		for range rounds {
			for _, who := range []string{"shoal", "coredns"} {
				took := load(b, servers[who], queries)
				if len(took) == 0 {
					b.Fatal("no answers")
				}
				rate[who] += float64(len(took)) / length.Seconds() / rounds
				p99[who] = max(p99[who], took[len(took)*99/100])
			}
		}
		for _, who := range []string{"shoal", "coredns"} {
			b.ReportMetric(rate[who], who+"-qps")
			b.ReportMetric(float64(p99[who].Microseconds()), who+"-p99-µs")
		}
		b.ReportMetric(rate["shoal"]/rate["coredns"], "ratio")
	}
}
