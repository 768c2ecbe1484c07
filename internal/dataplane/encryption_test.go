package dataplane

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/shoal-dev/shoal/internal/dataplane/encryption"
	"github.com/shoal-dev/shoal/internal/dataplane/netnstest"
	"github.com/shoal-dev/shoal/internal/dataplane/nft"
	"github.com/shoal-dev/shoal/internal/dataplane/rtnl"
	"github.com/shoal-dev/shoal/internal/dataplane/wireguard"
	"github.com/shoal-dev/shoal/internal/shoal"
)

// TestMain makes the test's own program the WireGuard process, too.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == wireguard.Word {
		if err := wireguard.Main(context.Background(), os.Args[2:]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

func TestOnlyAnEncryptedOverlayKeepsItsSecrets(t *testing.T) {
	for _, encrypted := range []bool{false, true} {
		t.Run(fmt.Sprintf("encrypted=%v", encrypted), func(t *testing.T) {
			f := newEncryptionCluster(t, 3, encrypted)
			for i := range f.planes {
				f.echo(i)
			}
			sniffer := netnstest.Sniff(t, f.underlay.Do, testMarker)
			f.everyPairTalks()
			sniffer.Stop()
			if sniffer.Total() == 0 {
				t.Fatal("the sniffer has seen nothing")
			}
			for i, p := range f.planes {
				if parts := p.Drift(true); len(parts) > 0 {
					t.Errorf("node %d has drifted: %v", i, parts)
				}
			}
			if got := sniffer.Seen() > 0; got == encrypted {
				t.Errorf("of %d packets, %d could be read", sniffer.Total(), sniffer.Seen())
			}
		})
	}
}

// sender sends datagrams without end, and counts those that came back.
type sender struct{ sent, returned atomic.Int64 }

// send sends one datagram a millisecond from a node to another until stop is called. Its replies are counted until they stop coming.
func (f *encryptionCluster) send(from, to int) (s *sender, stop func()) {
	conn := f.dial(from, to)
	s = &sender{}
	ctx, cancel := context.WithCancel(f.Context())
	done, read := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		tick := time.NewTicker(time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
				if _, err := conn.Write([]byte(testMarker)); err == nil {
					s.sent.Add(1)
				}
			}
		}
	}()
	go func() {
		defer close(read)
		buf := make([]byte, 2048)
		for {
			_, err := conn.Read(buf)
			if errors.Is(err, net.ErrClosed) || errors.Is(err, os.ErrDeadlineExceeded) {
				return
			}
			if err == nil {
				s.returned.Add(1)
			}
		}
	}()
	return s, func() {
		cancel()
		<-done
		_ = conn.SetReadDeadline(time.Now().Add(time.Second))
		<-read
	}
}

// kill ends a node's WireGuard process.
func (f *encryptionCluster) kill(i int) {
	f.Helper()
	socket := f.processes[i].Socket()
	entries, err := os.ReadDir("/proc")
	if err != nil {
		f.Fatal(err)
	}
	for _, e := range entries {
		line, err := os.ReadFile("/proc/" + e.Name() + "/cmdline")
		var pid int
		if _, scan := fmt.Sscan(e.Name(), &pid); err == nil && scan == nil && bytes.Contains(line, []byte(socket)) {
			if err := unix.Kill(pid, unix.SIGKILL); err != nil {
				f.Fatal(err)
			}
			f.eventually(5*time.Second, "the interface ends with its process", func() error {
				if _, err := f.planes[i].links.LinkByName(encryption.DeviceName); err == nil {
					return errors.New("it is there")
				}
				return nil
			})
			return
		}
	}
	f.Fatal("node has no WireGuard process")
}

// What is to be encrypted does not leave the node while nothing encrypts it, whichever of the safeguards is left; and it comes back.
func TestEncryptionFailsClosed(t *testing.T) {
	for _, damage := range []struct {
		name string
		do   func(f *encryptionCluster)
	}{
		{"process killed", func(f *encryptionCluster) { f.kill(0) }},
		{"interface removed", func(f *encryptionCluster) {
			link, err := f.planes[0].links.LinkByName(encryption.DeviceName)
			if err == nil {
				err = f.planes[0].links.LinkDel(link)
			}
			if err != nil {
				f.Fatal(err)
			}
		}},
		{"interface removed and its addresses led elsewhere", func(f *encryptionCluster) {
			f.kill(0)
			via := &netlink.Route{Dst: rtnl.IPNet(shoal.TunnelRange()), Gw: node(1).AsSlice()}
			if err := f.planes[0].links.RouteReplace(via); err != nil {
				f.Fatal(err)
			}
			local := &netlink.Addr{IPNet: rtnl.IPNet(netip.PrefixFrom(tunnelAddr(0), 32))} // else there is no source address
			lo, err := f.planes[0].links.LinkByName("lo")
			if err == nil {
				err = f.planes[0].links.AddrAdd(lo, local)
			}
			if err != nil {
				f.Fatal(err)
			}
		}},
		{"rules and interface removed", func(f *encryptionCluster) {
			table, err := nft.Open(f.planes[0].node)
			if err == nil {
				err = errors.Join(table.Delete(), table.Close())
			}
			if err != nil {
				f.Fatal(err)
			}
			f.kill(0)
		}},
	} {
		t.Run(damage.name, func(t *testing.T) {
			f := newEncryptionCluster(t, 2, true)
			f.echo(1)
			f.everyPairTalksTo(1)
			sniffer := netnstest.Sniff(t, f.underlay.Do, testMarker)
			s, stop := f.send(0, 1)
			f.eventually(5*time.Second, "the sender is heard", func() error {
				if s.returned.Load() < 100 {
					return fmt.Errorf("%d answers", s.returned.Load())
				}
				return nil
			})
			damage.do(f)
			began, sent := time.Now(), s.sent.Load()
			f.eventually(5*time.Second, "more is sent", func() error {
				if s.sent.Load() < sent+300 {
					return fmt.Errorf("%d sent", s.sent.Load()-sent)
				}
				return nil
			})
			if parts := f.planes[0].Drift(false); !slices.Contains(parts, PartWireGuard) {
				t.Errorf("drift names %v", parts)
			}
			f.apply(0)
			returned := s.returned.Load()
			f.eventually(healLimit-time.Since(began), "traffic flows again", func() error {
				if s.returned.Load() < returned+10 {
					return fmt.Errorf("%d answers", s.returned.Load()-returned)
				}
				return nil
			})
			t.Logf("traffic flows again %v after the damage", time.Since(began).Round(time.Millisecond))
			stop()
			if sniffer.Seen() > 0 || sniffer.Total() == 0 {
				t.Errorf("of %d packets, %d could be read", sniffer.Total(), sniffer.Seen())
			}
		})
	}
}

const healLimit = 2 * time.Second

func (f *encryptionCluster) everyPairTalksTo(to int) {
	f.Helper()
	for from := range f.planes {
		if from != to {
			conn := f.dial(from, to)
			f.eventually(10*time.Second, "the first exchange", func() error { return exchange(conn, exchangeLimit) })
		}
	}
}

// A new secret costs no packet, and is needed from then on.
func TestRotatingTheSecretDropsNothing(t *testing.T) {
	f := newEncryptionCluster(t, 2, true)
	f.echo(1)
	f.everyPairTalksTo(1)
	s, stop := f.send(0, 1)
	for range 3 {
		secret, err := wireguard.NewKey()
		if err != nil {
			t.Fatal(err)
		}
		for i := range f.planes { // one node learns of it before the other
			f.secret[i] = secret
			f.apply(i)
			before := s.returned.Load()
			f.eventually(5*time.Second, "traffic goes on", func() error {
				if s.returned.Load() < before+100 {
					return fmt.Errorf("%d answers", s.returned.Load()-before)
				}
				return nil
			})
		}
	}
	stop()
	if sent, returned := s.sent.Load(), s.returned.Load(); sent == 0 || returned != sent {
		t.Errorf("of %d packets, %d came back", sent, returned)
	}

	again := func() error {
		f.kill(0)
		f.planes[0].Drift(false)
		f.apply(0)
		conn := f.dial(0, 1)
		var err error
		for deadline := time.Now().Add(3 * time.Second); time.Now().Before(deadline); {
			if err = exchange(conn, exchangeLimit); err == nil {
				break
			}
		}
		return err
	}
	if err := again(); err != nil {
		t.Errorf("with the new secret: %v", err)
	}
	f.secret[0][0]++
	if err := again(); err == nil {
		t.Error("a node with another secret is heard")
	}
}

// A packet that somebody on the underlay sends in clear to an encrypted overlay reaches nobody.
func TestClearPacketsAreNotLetIn(t *testing.T) {
	for _, encrypted := range []bool{false, true} {
		t.Run(fmt.Sprintf("encrypted=%v", encrypted), func(t *testing.T) {
			f := newEncryptionCluster(t, 2, encrypted)
			f.echo(1)
			f.everyPairTalksTo(1)
			intruder := netnstest.New(t)
			f.underlay.Plug(t, intruder, "10.77.0.66/24")
			// Its overlay is made like node 0's, but in clear.
			p := newPlane(t, intruder)
			if _, err := p.Namespace("task"); err != nil {
				t.Fatal(err)
			}
			c := &Config{Overlays: map[string]*Overlay{"net": {ID: "net", VNI: testVNI, Port: 4789, Local: netip.MustParseAddr("10.77.0.66"),
				Remotes: Remotes{}.Set(task(1), Remote{MAC: shoal.MACFor(task(1)), VTEP: node(1)})}}, Sandboxes: map[string]*Sandbox{"task": {Endpoints: []Endpoint{
				{Name: "eth0", Overlay: "net", Addr: netip.PrefixFrom(task(9), 24), MAC: shoal.MACFor(task(9))}}}}}
			if err := p.Apply(t.Context(), c); err != nil {
				t.Fatal(err)
			}
			arrived := netnstest.Sniff(t, f.spaces[1].Do, "intruder")
			heard := netnstest.Sniff(t, inside(f.planes[1], "task"), "intruder")
			other := netnstest.Sniff(t, inside(f.planes[1], "task"), testMarker)
			f.eventually(5*time.Second, "the intruder reaches the machine", func() error {
				return errors.Join(inside(p, "task")(func() error {
					conn, err := net.Dial("udp4", netip.AddrPortFrom(task(1), 7).String())
					if err != nil {
						return err
					}
					_, err = conn.Write([]byte("intruder"))
					return errors.Join(err, conn.Close())
				}), atLeast(arrived.Seen(), 20))
			})
			conn := f.dial(0, 1) // what comes after it is heard
			f.eventually(5*time.Second, "the honest node is heard", func() error {
				return errors.Join(exchange(conn, exchangeLimit), atLeast(other.Seen(), 1))
			})
			heard.Stop()
			if got := heard.Seen() > 0; got == encrypted {
				t.Errorf("heard %d packets of the intruder", heard.Seen())
			}
		})
	}
}

func atLeast(got, want int64) error {
	if got < want {
		return fmt.Errorf("%d, want %d", got, want)
	}
	return nil
}

// The process is found again by the next daemon, and ends with the last encrypted overlay.
func TestTheInterfaceOutlivesThePlaneAndEndsWithTheLastEncryptedOverlay(t *testing.T) {
	f := newEncryptionCluster(t, 2, true)
	f.echo(1)
	f.everyPairTalksTo(1)
	link, err := f.planes[0].links.LinkByName(encryption.DeviceName)
	if err != nil {
		t.Fatal(err)
	}
	var next *Plane
	err = f.spaces[0].Do(func() (err error) {
		next, err = New(Settings{Log: slog.New(slog.DiscardHandler), Dir: f.planes[0].dir.Path("."), WireGuard: f.processes[0]})
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = next.Close() }()
	f.planes[0].Forget() // the other is its successor
	if err := next.Apply(t.Context(), f.config(0)); err != nil {
		t.Fatal(err)
	}
	if same, err := next.links.LinkByName(encryption.DeviceName); err != nil || same.Attrs().Index != link.Attrs().Index {
		t.Errorf("the interface was made anew: %v", err)
	}
	if err := exchange(f.dial(0, 1), exchangeLimit); err != nil {
		t.Error(err)
	}
	if err := next.Apply(t.Context(), &Config{}); err != nil {
		t.Fatal(err)
	}
	if _, err := next.links.LinkByName(encryption.DeviceName); err == nil {
		t.Error("the interface is left")
	}
	routes, err := next.links.RouteListFiltered(netlink.FAMILY_V4, &netlink.Route{Dst: rtnl.IPNet(shoal.TunnelRange())}, netlink.RT_FILTER_DST)
	if err != nil || len(routes) > 0 {
		t.Errorf("routes are left: %v, %v", routes, err)
	}
	f.eventually(5*time.Second, "the process ends", func() error {
		if _, err := wireguard.Process(f.processes[0].Socket()).Handshakes(); err == nil {
			return errors.New("it answers")
		}
		return nil
	})
}
