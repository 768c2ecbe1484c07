package ports

import (
	"log/slog"
	"net"
	"net/netip"
	"testing"

	"github.com/shoal-dev/shoal/internal/dataplane"
	"github.com/shoal-dev/shoal/internal/shoal"
)

func TestReservedPortsRefuseConnections(t *testing.T) {
	r := New(slog.New(slog.DiscardHandler), func(f func() error) error { return f() })
	defer r.Close()
	loopback := netip.MustParseAddr("127.0.0.1")
	bound, err := r.Reserve(shoal.PortBinding{Protocol: shoal.TCP, HostIP: loopback, Target: 80}, "a")
	if err != nil || bound.HostPort == 0 || bound.HostIP != loopback {
		t.Fatalf("bound %+v, %v", bound, err)
	}
	addr := netip.AddrPortFrom(loopback, bound.HostPort).String()
	if conn, err := net.Dial("tcp", addr); err == nil {
		t.Error("the port answers")
		_ = conn.Close()
	}
	if l, err := net.Listen("tcp", addr); err == nil {
		t.Error("another process could take the port")
		_ = l.Close()
	}
	if _, err := r.Reserve(bound, "b"); err == nil || err.Error() != "Bind for "+addr+" failed: port is already allocated" {
		t.Errorf("reserved again: %v", err)
	}
	r.Release("a")
	if _, err := r.Reserve(bound, "b"); err != nil {
		t.Errorf("a released port: %v", err)
	}
}

func TestPortsOfTheMeshAreReservedWhilePublished(t *testing.T) {
	r := New(slog.New(slog.DiscardHandler), func(f func() error) error { return f() })
	defer r.Close()
	free, err := r.Reserve(shoal.PortBinding{Protocol: shoal.TCP}, "a")
	if err != nil {
		t.Fatal(err)
	}
	r.Release("a")
	published := dataplane.MeshPorts{}.Set(dataplane.PortKey{Protocol: shoal.TCP, Port: free.HostPort}, &dataplane.MeshPort{})
	r.SetMesh(published)
	if _, err := r.Reserve(free, "a"); err == nil {
		t.Error("a port of the mesh was given to a container")
	}
	r.SetMesh(dataplane.MeshPorts{})
	if _, err := r.Reserve(free, "a"); err != nil {
		t.Errorf("a port that is no longer published: %v", err)
	}
}
