package e2e

import (
	"context"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/shoal-dev/shoal/test/lab"
)

func TestHostModePortsAnswerOnlyWhereTheTaskIs(t *testing.T) {
	t.Parallel()
	c := newCluster(t, "hostport")
	c.create(c.n1, "--name", "web", "--publish", "mode=host,target=80,published=8090", "--constraint", "node.hostname==n2", "nginx")
	if _, err := c.get("http://" + c.n2.Addr + ":8090/"); err != nil {
		t.Errorf("on the task's node: %v", err)
	}
	for _, n := range []string{c.n1.Addr, c.n3.Addr} {
		if _, err := c.get("http://" + n + ":8090/"); err == nil {
			t.Errorf("%s answers although no task is there", n)
		}
	}
	if row := c.ok(c.n1, "service", "ps", "web", "--filter", "desired-state=running", "--format", "{{.Ports}}"); !strings.Contains(row, "*:8090->80/tcp") {
		t.Errorf("service ps shows the port as %q", row)
	}
	c.ok(c.n1, "service", "update", "-q", "-d", "--replicas", "2", "web")
	c.eventually(10*time.Second, "the second task says why it has no node", func() error {
		rows := c.ok(c.n1, "service", "ps", "web", "--no-trunc", "--format", "{{.CurrentState}} {{.Error}}")
		if !strings.Contains(rows, "no suitable node (scheduling constraints not satisfied on 2 nodes; host-mode port already in use on 1 node)") {
			return fmt.Errorf("%s", rows)
		}
		return nil
	})
	logs := c.docker(c.n1, "service", "logs", "--raw", "web")
	if !strings.Contains(logs.Stdout, c.client.Addr+" - - ") {
		t.Errorf("the task does not see the client's address %s:\n%s", c.client.Addr, logs.Stdout)
	}
}

// A drain of a start-first service whose host-mode port leaves it no other node ends, and leaves nothing behind when it is taken back.
func TestADrainEndsWhereTheHostModePortIsTakenEverywhere(t *testing.T) {
	t.Parallel()
	c := newCluster(t, "portdrain")
	c.create(c.n1, "--name", "web", "--replicas", "3", "--update-order", "start-first",
		"--publish", "mode=host,target=80,published=8090", "srv:1")
	answers := func(want ...string) func() error {
		return func() error {
			var got []string
			for _, n := range c.Nodes() {
				if _, err := c.get("http://" + n.Addr + ":8090/"); err == nil {
					got = append(got, n.Name)
				}
			}
			wanted := c.ok(c.n1, "service", "ps", "-q", "--filter", "desired-state=running", "web")
			if n := len(strings.Fields(wanted)); !slices.Equal(got, want) || n != 3 {
				return fmt.Errorf("%d tasks are wanted and %v answer, want 3 and %v", n, got, want)
			}
			return nil
		}
	}
	c.eventually(10*time.Second, "every node answers", answers("n1", "n2", "n3"))
	c.ok(c.n1, "node", "update", "--availability", "drain", "n3")
	c.eventually(10*time.Second, "the drained node has no task", answers("n1", "n2"))
	c.ok(c.n1, "node", "update", "--availability", "active", "n3")
	c.eventually(10*time.Second, "every node answers again", answers("n1", "n2", "n3"))
	// Without --detach the command ends when the update has.
	c.ok(c.n1, "service", "update", "-q", "--no-resolve-image", "--update-parallelism", "3", "--update-monitor", "1s", "--image", "srv:2", "web")
	c.eventually(10*time.Second, "every node answers after the update", answers("n1", "n2", "n3"))
}

// The published port of the mesh shows tasks the client's own address, whichever node it came in by.
// asked is what a task tells of whom it sees, in answer to one request or one datagram from a namespace.
func asked(from *lab.Host, network, addr string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Second)
	defer cancel()
	conn, err := from.Dial(ctx, network, addr)
	if err != nil {
		return "", err
	}
	defer func() { _ = conn.Close() }()
	if err := conn.SetDeadline(time.Now().Add(3 * time.Second)); err != nil {
		return "", err
	}
	if _, err := io.WriteString(conn, "GET / HTTP/1.0\r\n\r\n"); err != nil {
		return "", err
	}
	answer := make([]byte, 4096)
	n, err := conn.Read(answer)
	if err != nil {
		return "", err
	}
	_, peer, found := strings.Cut(string(answer[:n]), "peer=")
	if !found {
		return "", fmt.Errorf("answer %q", answer[:n])
	}
	return strings.TrimSpace(peer), nil
}

// A task sees the address of whom it talks to, through every node, whether it runs there or not.
func TestTasksSeeTheClientsAddress(t *testing.T) {
	t.Parallel()
	c := newCluster(t, "address")
	c.create(c.n1, "--name", "web", "--replicas", "2", "--constraint", "node.role==worker", "--replicas-max-per-node", "1",
		"-p", "8080:80", "-p", "8080:80/udp", "srv:1")
	sees := func(from *lab.Host, network, addr string, want ...string) {
		t.Helper()
		for range 4 { // each task, twice
			var got string
			c.eventually(5*time.Second, network+" to "+addr+" from "+from.Name, func() (err error) { // a lost datagram is not sent again
				got, err = asked(from, network, net.JoinHostPort(addr, "8080"))
				return err
			})
			if !slices.Contains(want, got) {
				t.Errorf("%s to %s from %s: the task sees %s, not %v", network, addr, from.Name, got, want)
			}
		}
	}
	own := map[*lab.Node][]string{}
	for _, n := range c.Nodes() {
		for line := range strings.Lines(c.inside(n.Namespace(), "ip", "-o", "addr")) {
			addr, _, _ := strings.Cut(strings.Fields(line)[3], "/")
			own[n] = append(own[n], addr)
		}
	}
	for _, network := range []string{"tcp", "udp"} {
		for _, n := range c.Nodes() {
			sees(c.client, network, n.Addr, c.client.Addr)
			sees(c.client, network, n.Addr6, c.client.Addr6)
			// A client on the node itself has an address of the node's.
			for _, addr := range []string{"127.0.0.1", n.Addr, n.Addr6} {
				sees(n.Host, network, addr, own[n]...)
			}
		}
	}
	// A task that calls a published port is seen with its own address, or with one of its node's; only if that leads it by way of
	// another node back to its own one, with that other node's.
	c.create(c.n1, "--name", "caller", "--mode", "global", "busybox", "sleep", "1d")
	for _, n := range c.Nodes() {
		caller := c.ok(n, "ps", "-q", "--filter", "label=com.docker.swarm.service.name=caller")
		mine := append(strings.Fields(c.ok(n, "exec", caller, "hostname", "-i")), own[n]...)
		here := c.ok(n, "ps", "-q")
		for _, to := range c.Nodes() {
			for range 2 {
				answer := c.ok(n, "exec", caller, "wget", "-qO-", "http://"+to.Addr+":8080/")
				var host, version, peer string
				if _, err := fmt.Sscanf(answer, "host=%s v=%s peer=%s", &host, &version, &peer); err != nil {
					t.Fatalf("answer %q: %v", answer, err)
				}
				returned := strings.Contains(here, host) && slices.Contains(own[to], peer)
				if !slices.Contains(mine, peer) && !returned {
					t.Errorf("a task on %s that calls %s is seen as %s, not one of %v", n.Name, to.Name, peer, mine)
				}
			}
		}
	}
}
