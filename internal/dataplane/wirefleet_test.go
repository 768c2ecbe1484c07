package dataplane

import (
	"bytes"
	"fmt"
	"net"
	"net/netip"
	"os"
	"testing"
	"time"

	"github.com/shoal-dev/shoal/internal/dataplane/netnstest"
	"github.com/shoal-dev/shoal/internal/dataplane/wireguard"
	"github.com/shoal-dev/shoal/internal/shoal"
)

const (
	testVNI    = 4097
	testMarker = "this must not be read by others"
)

// fleet is nodes with one task each on an overlay.
type fleet struct {
	*testing.T
	underlay *netnstest.Underlay
	spaces   []*netnstest.NS
	planes   []*Plane
	keys     []wireguard.Key
	secret   []wireguard.Key // of each node
	wired    bool
}

func newFleet(t *testing.T, size int, wired bool) *fleet {
	f := &fleet{T: t, underlay: netnstest.NewUnderlay(t), wired: wired}
	secret, err := wireguard.NewKey()
	if err != nil {
		t.Fatal(err)
	}
	for i := range size {
		ns := netnstest.New(t)
		f.underlay.Plug(t, ns, node(i).String()+"/24")
		key, err := wireguard.NewKey()
		if err != nil {
			t.Fatal(err)
		}
		p := newPlane(t, ns)
		p.process = WireGuardProcess{Program: os.Args[0], Dir: t.TempDir()}
		f.spaces, f.planes, f.keys, f.secret = append(f.spaces, ns), append(f.planes, p), append(f.keys, key), append(f.secret, secret)
		if _, err := p.Namespace("task"); err != nil {
			t.Fatal(err)
		}
	}
	for i := range f.planes {
		f.apply(i)
	}
	return f
}

func node(i int) netip.Addr   { return netip.AddrFrom4([4]byte{10, 77, 0, byte(11 + i)}) }
func task(i int) netip.Addr   { return netip.AddrFrom4([4]byte{10, 0, 9, byte(2 + i)}) }
func onWire(i int) netip.Addr { return netip.AddrFrom4([4]byte{198, 18, 0, byte(1 + i)}) }

func (f *fleet) config(i int) *Config {
	o := &Overlay{ID: "net", VNI: testVNI, Port: 4789, Local: node(i), Encrypted: f.wired}
	vtep := node
	c := &Config{Overlays: map[string]*Overlay{"net": o}, Sandboxes: map[string]*Sandbox{"task": {Endpoints: []Endpoint{
		{Name: "eth0", Overlay: "net", Addr: netip.PrefixFrom(task(i), 24), MAC: MAC(task(i))}}}}}
	if f.wired {
		vtep, o.Local = onWire, onWire(i)
		c.Wire = &Wire{Addr: onWire(i), Range: shoal.TunnelRange(), MTU: 1440, Config: wireguard.Config{Key: f.keys[i], Port: 4790}}
	}
	for j := range f.keys {
		if j == i {
			continue
		}
		o.Remotes = o.Remotes.Set(task(j), Remote{MAC: MAC(task(j)), VTEP: vtep(j)})
		if f.wired {
			c.Wire.Peers = append(c.Wire.Peers, wireguard.Peer{Key: f.keys[j].PublicKey(), Preshared: f.secret[i], Endpoint: netip.AddrPortFrom(node(j), 4790), Addr: onWire(j)})
		}
	}
	return c
}

func (f *fleet) apply(i int) {
	f.Helper()
	if err := f.planes[i].Apply(f.Context(), f.config(i)); err != nil {
		f.Fatal(err)
	}
}

// echo answers datagrams in a node's task.
func (f *fleet) echo(i int) {
	f.Helper()
	err := inside(f.planes[i], "task")(func() error {
		conn, err := net.ListenPacket("udp4", ":7")
		if err != nil {
			return err
		}
		f.Cleanup(func() { _ = conn.Close() })
		go func() {
			buf := make([]byte, 2048)
			for {
				n, from, err := conn.ReadFrom(buf)
				if err != nil {
					return
				}
				_, _ = conn.WriteTo(buf[:n], from) // lost, as a packet may be
			}
		}()
		return nil
	})
	if err != nil {
		f.Fatal(err)
	}
}

// dial is a socket in a node's task that talks to another node's.
func (f *fleet) dial(from, to int) net.Conn {
	f.Helper()
	var conn net.Conn
	err := inside(f.planes[from], "task")(func() (err error) {
		conn, err = net.Dial("udp4", netip.AddrPortFrom(task(to), 7).String())
		return err
	})
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { _ = conn.Close() })
	return conn
}

// exchange sends the marker and waits for its return.
func exchange(conn net.Conn, limit time.Duration) error {
	if err := conn.SetDeadline(time.Now().Add(limit)); err != nil {
		return err
	}
	if _, err := conn.Write([]byte(testMarker)); err != nil {
		return err
	}
	buf := make([]byte, 2048)
	n, err := conn.Read(buf)
	if err == nil && !bytes.Equal(buf[:n], []byte(testMarker)) {
		err = fmt.Errorf("answer is %q", buf[:n])
	}
	return err
}

// eventually tries until it works.
func (f *fleet) eventually(limit time.Duration, what string, try func() error) {
	f.Helper()
	deadline := time.Now().Add(limit)
	for {
		err := try()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			f.Fatalf("%s: %v", what, err)
		}
		<-time.After(10 * time.Millisecond)
	}
}

const exchangeLimit = 200 * time.Millisecond

func (f *fleet) everyPairTalks() {
	f.Helper()
	for from := range f.planes {
		for to := range f.planes {
			if from != to {
				conn := f.dial(from, to)
				f.eventually(10*time.Second, fmt.Sprintf("from node %d to %d", from, to), func() error { return exchange(conn, exchangeLimit) })
			}
		}
	}
}
