package e2e

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/moby/moby/api/types/network"
	"github.com/moby/moby/api/types/swarm"
)

func TestNetworksOfManyKinds(t *testing.T) {
	t.Parallel()
	c := newCluster(t, "kinds")
	n1 := c.n1

	// Settings under a name.
	c.ok(n1, "network", "create", "--config-only", "--subnet", "10.5.0.0/24", "--label", "x=y", "conf")
	c.ok(n1, "network", "create", "--config-from", "conf", "made")
	var made network.Inspect
	c.inspect(n1, &made, "network", "inspect", "made")
	if made.ConfigFrom.Network != "conf" || made.Labels["x"] != "y" || made.IPAM.Config[0].Subnet.String() != "10.5.0.0/24" {
		t.Errorf("made from settings: %+v", made)
	}
	c.refused(n1, 1, `configuration network "conf" is in use`, "network", "rm", "conf")
	c.refused(n1, 1, `configuration network "nosuch" does not exist`, "network", "create", "--config-from", "nosuch", "x")
	c.refused(n1, 1, "user specified configurations are not supported", "network", "create", "--config-from", "conf", "--subnet", "10.6.0.0/24", "x")
	c.refused(n1, 125, "cannot create endpoint on configuration-only network", "run", "--rm", "--network", "conf", "busybox", "true")

	// Parts of a subnet, and both families.
	c.ok(n1, "network", "create", "-d", "overlay", "--subnet", "10.60.0.0/24", "--ip-range", "10.60.0.128/28", "--aux-address", "r=10.60.0.129", "--gateway", "10.60.0.130", "part")
	c.ok(n1, "network", "create", "-d", "overlay", "--attachable", "--ipv6", "six")
	c.refused(n1, 1, "IPv6 has not been enabled for this network", "network", "create", "-d", "overlay", "--subnet", "fd00:5::/64", "x")
	c.create(n1, "--name", "web", "--network", "part", "--network", "six", "--replicas", "2", "nginx")
	c.eventually(time.Minute, "web runs", func() error { return c.running("web", 2) })
	var web swarm.Service
	c.inspect(n1, &web, "service", "inspect", "web")
	families := map[bool]int{}
	for _, vip := range web.Endpoint.VirtualIPs {
		families[vip.Addr.Addr().Is4()]++
		if part := netip.MustParsePrefix("10.60.0.0/24"); part.Contains(vip.Addr.Addr()) && vip.Addr.String() != "10.60.0.128/24" {
			t.Errorf("a virtual address out of the range: %s", vip.Addr)
		}
	}
	if families[true] != 2 || families[false] != 1 {
		t.Errorf("virtual addresses %+v", web.Endpoint.VirtualIPs)
	}
	for name, want := range map[string]string{"1.web": "Address: fd", "web.six": "Address: fd", "tasks.web": "Address: 10.", "foo.six": "NXDOMAIN"} {
		// nslookup ends with an error when one family has no answer.
		if got := c.docker(c.n2, "run", "--rm", "--network", "six", "busybox", "nslookup", name).Text(); !strings.Contains(got, want) {
			t.Errorf("%s is %s", name, got)
		}
	}
	c.refused(n1, 1, "label shoal.publish.81.allow: the service does not publish port 81/tcp",
		"service", "create", "--label", "shoal.publish.81.allow=10.0.0.0/8", "--publish", "80:80", "nginx")
	c.ok(n1, "service", "rm", "web")

	// Another routing mesh.
	c.refused(n1, 1, "ingress network .* is already present", "network", "create", "-d", "overlay", "--ingress", "mesh")
	c.create(n1, "--name", "first", "--publish", "8080:80", "nginx")
	remove := func() string { return n1.Shell(t.Context(), "echo y | docker network rm ingress").Text() }
	if got := remove(); !strings.Contains(got, "ingress network cannot be removed because service") {
		t.Errorf("removal of a mesh in use: %s", got)
	}
	c.ok(n1, "service", "rm", "first")
	if got := remove(); !strings.Contains(got, "WARNING! Before removing the routing-mesh network") || strings.Contains(got, "Error") {
		t.Errorf("removal of a mesh: %s", got)
	}
	c.refused(n1, 1, "service needs ingress network, but no ingress network is present", "service", "create", "--publish", "8080:80", "nginx")
	c.ok(n1, "network", "create", "-d", "overlay", "--ingress", "--subnet", "10.11.0.0/16", "--gateway", "10.11.0.2", "mesh")
	c.create(n1, "--name", "second", "--publish", "8080:80", "nginx")
	c.eventually(time.Minute, "second runs", func() error { return c.running("second", 1) })
	for _, n := range c.Nodes() {
		c.eventually(10*time.Second, n.Name+" answers", func() error {
			_, err := c.get("http://" + n.Addr + ":8080/")
			return err
		})
	}
	c.ok(n1, "service", "rm", "second")

	c.eventually(20*time.Second, "what nobody uses goes", func() error {
		c.ok(n1, "network", "prune", "-f")
		if got := c.ok(n1, "network", "ls", "--filter", "type=custom", "--format", "{{.Name}}"); got != "docker_gwbridge" {
			return fmt.Errorf("left: %s", got)
		}
		return nil
	})
}
