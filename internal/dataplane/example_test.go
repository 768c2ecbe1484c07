package dataplane_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"

	"github.com/shoal-dev/shoal/internal/dataplane"
	"github.com/shoal-dev/shoal/internal/dataplane/netnstest"
)

// A container on a bridge gets what the config says; a config without it takes all of it away. To apply the same config again changes nothing.
func ExamplePlane_Apply() {
	err := netnstest.InNew(func() (err error) {
		dir, err := os.MkdirTemp("", "netns")
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
		plane, err := dataplane.New(dataplane.Settings{Log: slog.New(slog.DiscardHandler), Dir: dir})
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, plane.Close()) }()

		if _, err := plane.Namespace("web"); err != nil {
			return err
		}
		addr, gateway := netip.MustParsePrefix("172.30.0.2/16"), netip.MustParsePrefix("172.30.0.1/16")
		config := &dataplane.Config{
			Bridges: map[string]*dataplane.Bridge{"docker0": {Name: "docker0", Gateway: gateway, Masquerade: true}},
			Sandboxes: map[string]*dataplane.Sandbox{"web": {Endpoints: []dataplane.Endpoint{
				{Name: "eth0", Bridge: "docker0", Addr: addr, Gateway: gateway.Addr()},
			}}},
		}
		for range 2 {
			if err := plane.Apply(context.Background(), config); err != nil {
				return err
			}
		}
		err = plane.Inside("web", func() error {
			eth0, err := net.InterfaceByName("eth0")
			if err == nil {
				fmt.Println("eth0 has", eth0.HardwareAddr)
			}
			return err
		})
		fmt.Println("changed by others:", len(plane.Drift(true)))

		plane.Release("web")
		err = errors.Join(err, plane.Apply(context.Background(), &dataplane.Config{}))
		fmt.Println("exists:", plane.Exists("web"))
		return err
	})
	if err != nil {
		fmt.Println(err)
	}
	// Output:
	// eth0 has 02:42:ac:1e:00:02
	// changed by others: 0
	// exists: false
}
