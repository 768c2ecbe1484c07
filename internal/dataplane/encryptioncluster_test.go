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

// encryptionCluster is nodes with one task each on an overlay.
type encryptionCluster struct {
	*testing.T
	underlay  *netnstest.Underlay
	spaces    []*netnstest.NS
	planes    []*Plane
	processes []WireGuardProcess
	keys      []wireguard.Key
	secret    []wireguard.Key // of each node
	encrypted bool
}

func newEncryptionCluster(t *testing.T, size int, encrypted bool) *encryptionCluster {
	f := &encryptionCluster{T: t, underlay: netnstest.NewUnderlay(t), encrypted: encrypted}
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
		process := WireGuardProcess{Program: os.Args[0], Dir: t.TempDir()}
		p := newPlaneWith(t, ns, process)
		f.spaces, f.planes, f.processes, f.keys, f.secret = append(f.spaces, ns), append(f.planes, p), append(f.processes, process), append(f.keys, key), append(f.secret, secret)
		if _, err := p.Namespace("task"); err != nil {
			t.Fatal(err)
		}
	}
	for i := range f.planes {
		f.apply(i)
	}
	return f
}

func node(i int) netip.Addr       { return netip.AddrFrom4([4]byte{10, 77, 0, byte(11 + i)}) }
func task(i int) netip.Addr       { return netip.AddrFrom4([4]byte{10, 0, 9, byte(2 + i)}) }
func tunnelAddr(i int) netip.Addr { return netip.AddrFrom4([4]byte{198, 18, 0, byte(1 + i)}) }

func (f *encryptionCluster) config(i int) *Config {
	o := &Overlay{ID: "net", VNI: testVNI, Port: 4789, Local: node(i), Encrypted: f.encrypted}
	vtep := node
	c := &Config{Overlays: map[string]*Overlay{"net": o}, Sandboxes: map[string]*Sandbox{"task": {Endpoints: []Endpoint{
		{Name: "eth0", Overlay: "net", Addr: netip.PrefixFrom(task(i), 24), MAC: shoal.MACFor(task(i))}}}}}
	if f.encrypted {
		vtep, o.Local = tunnelAddr, tunnelAddr(i)
		c.WireGuard = &WireGuard{Addr: tunnelAddr(i), Range: shoal.TunnelRange(), MTU: 1440, Config: wireguard.Config{Key: f.keys[i], Port: 4790}}
	}
	for j := range f.keys {
		if j == i {
			continue
		}
		o.Remotes = o.Remotes.Set(task(j), Remote{MAC: shoal.MACFor(task(j)), VTEP: vtep(j)})
		if f.encrypted {
			c.WireGuard.Peers = append(c.WireGuard.Peers, wireguard.Peer{Key: f.keys[j].PublicKey(), Preshared: f.secret[i], Endpoint: netip.AddrPortFrom(node(j), 4790), Addr: tunnelAddr(j)})
		}
	}
	return c
}

func (f *encryptionCluster) apply(i int) {
	f.Helper()
	if err := f.planes[i].Apply(f.Context(), f.config(i)); err != nil {
		f.Fatal(err)
	}
}

// echo answers datagrams in a node's task.
func (f *encryptionCluster) echo(i int) {
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
func (f *encryptionCluster) dial(from, to int) net.Conn {
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
func (f *encryptionCluster) eventually(limit time.Duration, what string, try func() error) {
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

func (f *encryptionCluster) everyPairTalks() {
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
