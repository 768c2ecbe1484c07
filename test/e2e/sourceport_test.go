package e2e

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/shoal-dev/shoal/internal/dataplane/netnstest"
)

// A client, such as a load balancer before the cluster, may use one source port for connections to several nodes. They may reach the same task, which sees the
// client's own address, and each has its answers.
func TestConnectionsFromOneSourcePortThroughEveryNode(t *testing.T) {
	t.Parallel()
	c := newCluster(t, "ports")
	c.create(c.n1, "--name", "web", "-p", "8080:80", "--constraint", "node.hostname==n3", "srv:1")
	for port := 20001; port <= 20020; port++ {
		var open []net.Conn
		for _, n := range c.Nodes() {
			conn, err := c.client.DialFrom(t.Context(), port, n.Addr+":8080")
			if err != nil {
				t.Fatalf("%d through %s: %v", port, n.Name, err)
			}
			defer func() { _ = conn.Close() }()
			open = append(open, conn)
		}
		for _, last := range []bool{false, true} {
			for _, conn := range open {
				if err := askOver(conn, last); err != nil {
					t.Errorf("%d to %s: %v", port, conn.RemoteAddr(), err)
				}
			}
		}
	}
	c.portsComeBack()
}

// portsComeBack uses source ports through one node after the other, while the task remembers the last connection, and connection tracking does or does not.
func (c *cluster) portsComeBack() {
	c.t.Helper()
	for _, forgotten := range []bool{false, true} {
		for _, n := range c.Nodes() {
			if forgotten {
				c.eventually(10*time.Second, "connections are forgotten", func() error { return c.tracksNone(c.client.Addr) })
			}
			for port := 21001; port <= 21020; port++ {
				began := time.Now()
				conn, err := c.client.DialFrom(c.t.Context(), port, n.Addr+":8080")
				if err != nil {
					c.t.Fatalf("%d through %s: %v", port, n.Name, err)
				}
				if took := time.Since(began); took > 900*time.Millisecond { // a lost attempt is repeated after a second
					c.t.Errorf("%d through %s: connected after %v", port, n.Name, took)
				}
				if err := askOver(conn, true); err != nil {
					c.t.Errorf("%d through %s: %v", port, n.Name, err)
				}
				_ = conn.Close()
			}
		}
	}
}

// tracksNone is an error as long as a node tracks TCP connections from the address.
func (c *cluster) tracksNone(from string) error {
	for _, n := range c.Nodes() {
		err := netnstest.At(n.Namespace(), func() error {
			flows, err := netlink.ConntrackTableList(netlink.ConntrackTable, unix.AF_INET)
			for _, f := range flows {
				if f.Forward.Protocol == unix.IPPROTO_TCP && f.Forward.SrcIP.String() == from {
					return fmt.Errorf("%s: %s", n.Name, f)
				}
			}
			return err
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// askOver sends a request over a connection and reads the answer. If it is the last, the server closes the connection.
func askOver(conn net.Conn, last bool) error {
	if err := conn.SetDeadline(time.Now().Add(5 * time.Second)); err != nil {
		return err
	}
	req, err := http.NewRequest(http.MethodGet, "http://web/", http.NoBody)
	if err != nil {
		return err
	}
	req.Close = last
	if err := req.Write(conn); err != nil {
		return err
	}
	resp, err := http.ReadResponse(bufio.NewReader(conn), req)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s", resp.Status)
	}
	_, err = io.Copy(io.Discard, resp.Body)
	return err
}
