package network

import (
	"errors"
	"net/netip"
	"os/exec"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/shoal-dev/shoal/internal/shoal"
)

func TestRulesOfPublishedPorts(t *testing.T) {
	c := newCluster(t, 2)
	rules := map[string]shoal.PublishRule{
		"hosts":  {HostIPs: []netip.Addr{netip.MustParseAddr("10.77.0.11"), netip.MustParseAddr("fd77::11")}},
		"allow":  {Allow: []netip.Prefix{netip.MustParsePrefix("10.77.0.99/32"), netip.MustParsePrefix("fd77::99/128")}},
		"others": {Allow: []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}},
		"hidden": {SNAT: true},
		"all":    {HostIPs: []netip.Addr{netip.MustParseAddr("10.77.0.12")}, Allow: []netip.Prefix{netip.MustParsePrefix("10.77.0.0/24")}, SNAT: true},
	}
	ports := map[string]uint16{"hosts": 8001, "allow": 8002, "others": 8003, "hidden": 8004, "all": 8005}
	for name, rule := range rules {
		c.service(name, "10.0.1."+map[string]string{"hosts": "101", "allow": "102", "others": "103", "hidden": "104", "all": "105"}[name], ports[name])
		s := c.table.Services[shoal.ServiceID(name)]
		for i := range s.Ports {
			s.Ports[i].Rule = rule
		}
	}
	c.push(t)
	for name := range rules {
		c.task(t, name, 0, 1)
		c.task(t, name, 1, 2)
	}
	c.push(t)
	const refused = "refused"
	for _, probe := range []struct {
		enter       func(func() error) error
		proto, addr string
		saw         string
	}{
		{c.client.Do, "tcp4", "10.77.0.11:8001", "10.77.0.99"},
		{c.client.Do, "udp4", "10.77.0.11:8001", "10.77.0.99"},
		{c.client.Do, "tcp6", "[fd77::11]:8001", "fd77::99"},
		{c.client.Do, "tcp4", "10.77.0.12:8001", refused},
		{c.client.Do, "udp4", "10.77.0.12:8001", refused},
		{c.client.Do, "tcp6", "[fd77::12]:8001", refused},
		{c.nodes[0].ns.Do, "tcp4", "127.0.0.1:8001", refused},
		{c.client.Do, "tcp4", "10.77.0.11:8002", "10.77.0.99"},
		{c.client.Do, "tcp6", "[fd77::12]:8002", "fd77::99"},
		{c.nodes[1].ns.Do, "tcp4", "10.77.0.11:8002", refused},
		{c.nodes[1].ns.Do, "tcp6", "[fd77::11]:8002", refused},
		{c.client.Do, "tcp4", "10.77.0.11:8003", refused},
		{c.client.Do, "udp6", "[fd77::11]:8003", refused},
		{c.client.Do, "tcp4", "10.77.0.11:8004", "10.0.0.241"},
		{c.client.Do, "udp4", "10.77.0.12:8004", "10.0.0.242"},
		{c.client.Do, "tcp6", "[fd77::12]:8004", "fd00::242"},
		{c.client.Do, "tcp4", "10.77.0.12:8005", "10.0.0.242"},
		{c.client.Do, "tcp4", "10.77.0.11:8005", refused},
	} {
		for range 4 { // to tasks here and there
			began := time.Now()
			_, saw, err := ask(probe.enter, probe.proto, probe.addr)
			if errors.Is(err, unix.ECONNREFUSED) && time.Since(began) < time.Second {
				saw, err = refused, nil
			}
			if err != nil || saw != probe.saw {
				t.Errorf("%s to %s: the task saw %q (%v), want %s", probe.proto, probe.addr, saw, err, probe.saw)
			}
		}
	}
}

// TestRulesCanBeListed runs nft, which aborts on rules that it does not understand: nobody on the node could then list any.
func TestRulesCanBeListed(t *testing.T) {
	if _, err := exec.LookPath("nft"); err != nil {
		t.Fatal(err) // `make setup` installs it
	}
	c := newCluster(t, 2)
	c.service("web", "10.0.1.2", 8080)
	c.table.Services["web"].Ports[0].Rule = shoal.PublishRule{HostIPs: []netip.Addr{netip.MustParseAddr("10.77.0.11")}, Allow: []netip.Prefix{netip.MustParsePrefix("10.77.0.0/24")}, SNAT: true}
	c.push(t)
	inside := c.task(t, "web", 0, 1)
	c.task(t, "web", 1, 2)
	c.push(t)
	for name, enter := range map[string]func(func() error) error{"node": c.nodes[0].ns.Do, "task": inside} {
		err := enter(func() error {
			out, err := exec.CommandContext(t.Context(), "nft", "list", "ruleset").CombinedOutput()
			if err != nil || !strings.Contains(string(out), "table inet shoal") {
				t.Errorf("%s: %v\n%s", name, err, out)
			}
			return nil
		})
		if err != nil {
			t.Error(err)
		}
	}
}
