package network

import (
	"context"
	"fmt"
	"net"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/nftables"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/shoal-dev/shoal/internal/dataplane"
	"github.com/shoal-dev/shoal/internal/dataplane/netnstest"
)

// run runs the nodes' own loops until the test ends.
func (c *testCluster) run(t *testing.T) {
	for _, n := range c.nodes {
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		if err := n.StartProbes(); err != nil {
			t.Fatal(err)
		}
		go func() { done <- n.Run(ctx) }()
		t.Cleanup(func() {
			cancel()
			if err := <-done; err != nil {
				t.Error(err)
			}
		})
	}
}

func deleteLink(name string) error {
	link, err := netlink.LinkByName(name)
	if err != nil {
		return err
	}
	return netlink.LinkDel(link)
}

func flushRules() error {
	conn, err := nftables.New()
	if err != nil {
		return err
	}
	conn.FlushRuleset()
	return conn.Flush()
}

// deleteNeighbours removes all permanent entries of the device of a family.
func deleteNeighbours(device string, family int) error {
	link, err := netlink.LinkByName(device)
	if err != nil {
		return err
	}
	list, err := netlink.NeighList(link.Attrs().Index, family)
	if err != nil {
		return err
	}
	for _, n := range list {
		if n.State&netlink.NUD_PERMANENT == 0 {
			continue
		}
		if err := netlink.NeighDel(&n); err != nil {
			return err
		}
	}
	return nil
}

func TestForeignChangesAreRepairedWithinTwoSeconds(t *testing.T) {
	c := newCluster(t, 2)
	c.service("web", "10.0.1.2", 8080)
	c.service("other", "10.0.1.3", 8081)
	c.push(t)
	c.task(t, "web", 0, 1)
	other := c.task(t, "other", 1, 1)
	c.push(t)
	c.run(t)
	n := c.nodes[1]
	overlay := func(f func() error) error {
		return netnstest.At(filepath.Join(n.cfg.ExecRoot, "netns", dataplane.OverlayNamespace("netid")), f)
	}
	working := func() error {
		for addr, enter := range map[string]func(func() error) error{"10.77.0.12:8080": c.client.Do, "10.77.0.12:8081": c.client.Do, "10.0.1.2:80": other} {
			if _, _, err := ask(enter, "tcp4", addr); err != nil {
				return fmt.Errorf("%s: %w", addr, err)
			}
		}
		return nil
	}
	if err := working(); err != nil {
		t.Fatal(err)
	}
	for _, broken := range []struct {
		name  string
		where func(func() error) error
		do    func() error
	}{
		{"rules of the node flushed", n.ns.Do, flushRules},
		{"rules of a sandbox flushed", other, flushRules},
		{"gateway bridge removed", n.ns.Do, func() error { return deleteLink("docker_gwbridge") }},
		{"device of the mesh removed", n.ns.Do, func() error { return deleteLink("ing0") }},
		{"forwarding entries of the mesh removed", n.ns.Do, func() error { return deleteNeighbours("ing0", unix.AF_BRIDGE) }},
		{"tunnel removed", overlay, func() error { return deleteLink("vx0") }},
		{"bridge of an overlay removed", overlay, func() error { return deleteLink("br0") }},
		{"forwarding entries of an overlay removed", overlay, func() error { return deleteNeighbours("vx0", unix.AF_BRIDGE) }},
		{"neighbours of an overlay removed", overlay, func() error { return deleteNeighbours("vx0", unix.AF_INET) }},
		{"interface of a sandbox removed", other, func() error { return deleteLink("eth0") }},
	} {
		t.Run(broken.name, func(t *testing.T) {
			if err := broken.where(broken.do); err != nil {
				t.Fatal(err)
			}
			began := time.Now()
			err := working()
			for err != nil && time.Since(began) < 10*time.Second {
				err = working()
			}
			// A connection attempt made while it was broken may outlast the repair by its own retries.
			if took := time.Since(began); err != nil || took > 4*time.Second {
				t.Errorf("after %v: %v", took, err)
			}
		})
	}
}

func TestVIPAnswersPing(t *testing.T) {
	c := newCluster(t, 2)
	c.service("web", "10.0.1.2", 8080)
	c.push(t)
	c.task(t, "web", 0, 1)
	inside := c.task(t, "web", 1, 2)
	c.push(t)
	for i := range 4 {
		err := inside(func() error {
			conn, err := net.Dial("ip4:icmp", "10.0.1.2")
			if err != nil {
				return err
			}
			defer func() { _ = conn.Close() }()
			if err := conn.SetDeadline(time.Now().Add(2 * time.Second)); err != nil {
				return err
			}
			request := []byte{8, 0, 0, 0, 0, byte(40 + i), 0, 1} // echo request, id 40+i, sequence 1
			sum := ^(uint16(8)<<8 + uint16(40+i) + 1)
			request[2], request[3] = byte(sum>>8), byte(sum)
			if _, err := conn.Write(request); err != nil {
				return err
			}
			reply := make([]byte, 100)
			size, err := conn.Read(reply)
			const header = 20 // of IP
			if err == nil && (size < header+8 || reply[header] != 0) {
				err = fmt.Errorf("reply % x", reply[:size])
			}
			return err
		})
		if err != nil {
			t.Errorf("ping %d: %v", i, err)
		}
	}
}

// A client whose server closes first may use its port again at once. Its connection then matches the tracked old one.
func TestPortUsedAgainDoesNotLeadToARemovedBackend(t *testing.T) {
	c := newCluster(t, 2)
	c.service("web", "10.0.1.2", 8080)
	c.push(t)
	c.task(t, "web", 0, 1)
	c.task(t, "web", 1, 2)
	c.push(t)
	from := func(port int) (string, error) {
		var who string
		err := c.client.Do(func() error {
			d := net.Dialer{Timeout: time.Second, LocalAddr: &net.TCPAddr{Port: port}}
			conn, err := d.DialContext(t.Context(), "tcp4", "10.77.0.11:8080")
			if err != nil {
				return err
			}
			defer func() { _ = conn.Close() }()
			buf := make([]byte, 100)
			size, err := conn.Read(buf)
			if err != nil {
				return err
			}
			who = string(buf[:size])
			_, _ = conn.Read(buf) // the server closes first
			return nil
		})
		return who, err
	}
	const first, count = 30000, 20
	for port := range count {
		if _, err := from(first + port); err != nil {
			t.Fatal(err)
		}
	}
	for key, e := range c.table.Endpoints {
		if e.NodeID == "n1" {
			delete(c.table.Endpoints, key)
		}
	}
	c.push(t)
	if err := c.nodes[1].Down(t.Context(), containerID("web.2.webtask2")); err != nil {
		t.Fatal(err)
	}
	for port := range count {
		if who, err := from(first + port); err != nil {
			t.Errorf("port %d: %v", first+port, err)
		} else if who[:len("webtask1")] != "webtask1" {
			t.Errorf("port %d: %s", first+port, who)
		}
	}
}
