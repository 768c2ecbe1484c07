package e2e

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/shoal-dev/shoal/internal/dataplane/netnstest"
	"github.com/shoal-dev/shoal/test/lab"
	"github.com/shoal-dev/shoal/test/load"
)

const marker = "this-must-stay-between-us"

// sniff reads along on the wire between the nodes.
func (c *cluster) sniff() *netnstest.Sniffer {
	c.t.Helper()
	wire := strings.TrimSuffix(c.n1.Namespace(), c.n1.Name) + "wire"
	return netnstest.Sniff(c.t, func(f func() error) error { return netnstest.At(wire, f) }, marker)
}

// taskOn is the container of a service's task on a node.
func (c *cluster) taskOn(n *lab.Node, service string) string {
	c.t.Helper()
	var id string
	c.eventually(time.Minute, service+" runs on "+n.Name, func() error {
		id, _, _ = strings.Cut(c.ok(n, "ps", "-q", "--filter", "label=com.docker.swarm.service.name="+service), "\n")
		if id == "" {
			return errors.New("no container")
		}
		return nil
	})
	return id
}

// callEach calls a service by its name from a task on every node, as often as it has tasks.
func (c *cluster) callEach(service string) error {
	for _, n := range c.Nodes() {
		caller := c.taskOn(n, "caller")
		for range 3 {
			if r := c.docker(n, "exec", caller, "timeout", "2", "wget", "-qO-", "http://"+service+"/"+marker); r.Code != 0 {
				return fmt.Errorf("from %s: %s", n.Name, r.Text())
			}
		}
	}
	return nil
}

// An encrypted overlay is used as any other, and nobody on the wire can read along: not while nodes' daemons are killed, keys are changed
// or the process that encrypts is.
func TestAnEncryptedOverlay(t *testing.T) {
	c := newCluster(t, "enc")
	c.ok(c.n1, "network", "create", "-d", "overlay", "open")
	c.ok(c.n1, "network", "create", "-d", "overlay", "--attachable", "--opt", "encrypted", "sealed")
	if got := c.ok(c.n1, "network", "inspect", "sealed", "--format", `{{json .Options}}`); !strings.Contains(got, `"encrypted":""`) {
		t.Errorf("options are %s", got)
	}
	for _, name := range []string{"open", "sealed"} {
		c.create(c.n1, "--name", "on-"+name, "--network", name, "--replicas", "3", "srv:1")
	}
	c.create(c.n1, "--name", "caller", "--network", "open", "--network", "sealed", "--mode", "global", "srv:1")
	sniffer := c.sniff()
	c.eventually(20*time.Second, "each node reaches the service", func() error { return c.callEach("on-sealed") })
	if got := c.ok(c.n2, "run", "--rm", "--network", "sealed", "busybox", "timeout", "2", "wget", "-qO-", "http://tasks.on-sealed/"+marker); got == "" {
		t.Error("a plain container gets no answer")
	}

	vip, _, _ := strings.Cut(c.ok(c.n1, "service", "inspect", "on-sealed", "--format", "{{(index .Endpoint.VirtualIPs 0).Addr}}"), "/")
	inside := c.processOf(c.n2, c.taskOn(c.n2, "caller"))
	background := load.Start(t.Context(), load.Config{URLs: []string{"http://" + vip + "/" + marker}, Workers: 2,
		Dial: func(ctx context.Context, network, addr string) (conn net.Conn, err error) {
			err = netnstest.At(inside, func() error {
				conn, err = (&net.Dialer{}).DialContext(ctx, network, addr)
				return err
			})
			return conn, err
		},
		Failed: func(f load.Failure) { t.Logf("failed: %v", f) },
	})
	for _, n := range []*lab.Node{c.n2, c.n1} {
		if err := errors.Join(n.Kill(), n.Start()); err != nil {
			t.Fatal(err)
		}
		c.eventually(20*time.Second, "the cluster is whole", c.allReady)
	}
	c.ok(c.n1, "swarm", "ca", "--rotate", "-q")
	c.allAgree("after new keys")
	background.Stop()
	t.Logf("%d requests, %d failed", background.Sent(), background.Failed())
	if background.Sent() == 0 || background.Failed() > 0 {
		t.Errorf("of %d requests, %d failed", background.Sent(), background.Failed())
	}

	c.killEncryption(c.n3)
	c.eventually(healLimit, "the killed process is replaced", func() error {
		caller := c.taskOn(c.n3, "caller")
		if r := c.docker(c.n3, "exec", caller, "timeout", "1", "wget", "-qO-", "http://on-sealed/"+marker); r.Code != 0 {
			return errors.New(r.Text())
		}
		return nil
	})
	c.eventually(20*time.Second, "each node reaches the service", func() error { return c.callEach("on-sealed") })
	if sniffer.Seen() > 0 || sniffer.Total() == 0 {
		t.Errorf("of %d packets, %d could be read", sniffer.Total(), sniffer.Seen())
	}
	c.eventually(20*time.Second, "each node reaches the open service", func() error { return c.callEach("on-open") })
	if sniffer.Seen() == 0 {
		t.Error("nothing could be read on the open network: the sniffer is deaf")
	}

	c.ok(c.n1, "service", "rm", "on-sealed", "on-open", "caller")
	c.eventually(30*time.Second, "the network is removed", func() error {
		if r := c.docker(c.n1, "network", "rm", "sealed"); r.Code != 0 && !strings.Contains(r.Text(), "not found") {
			return errors.New(r.Text())
		}
		return nil
	})
	for _, n := range c.Nodes() {
		c.eventually(20*time.Second, "nothing encrypts on "+n.Name, func() error {
			if n.Command(t.Context(), "ip", "link", "show", "wg-shoal").Run() == nil {
				return errors.New("the interface is there")
			}
			return nil
		})
	}
}

// processOf is the network namespace of a container.
func (c *cluster) processOf(n *lab.Node, container string) string {
	c.t.Helper()
	return "/proc/" + c.ok(n, "inspect", container, "--format", "{{.State.Pid}}") + "/ns/net"
}

// allReady tells whether no node is down.
func (c *cluster) allReady() error {
	for _, n := range c.Nodes() {
		if err := c.nodeIs(n.Name, "Ready"); err != nil {
			return err
		}
	}
	return nil
}

// allAgree waits until the doctor finds that each node has agreed on keys with the others.
func (c *cluster) allAgree(when string) {
	c.t.Helper()
	c.eventually(20*time.Second, "nodes agree on keys "+when, func() error {
		r := c.shoal(c.n1, "", "doctor", "--all")
		if r.Code != 0 || strings.Count(r.Stdout, "encryption: WireGuard") != 3 || strings.Count(r.Stdout, "key agreed on") != 6 {
			return errors.New(r.Text())
		}
		return nil
	})
}

// killEncryption kills the process that encrypts a node's traffic.
func (c *cluster) killEncryption(n *lab.Node) {
	c.t.Helper()
	entries, err := os.ReadDir("/proc")
	if err != nil {
		c.t.Fatal(err)
	}
	socket := []byte(filepath.Join(n.ExecRoot(), "wireguard") + "/")
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		if line, err := os.ReadFile(filepath.Join("/proc", e.Name(), "cmdline")); err == nil && bytes.Contains(line, socket) {
			if err := unix.Kill(pid, unix.SIGKILL); err != nil {
				c.t.Fatal(err)
			}
			return
		}
	}
	c.t.Fatalf("no process encrypts on %s: is WireGuard in the kernel?", n.Name)
}

// The routing mesh is encrypted if it is asked to be.
func TestAnEncryptedRoutingMesh(t *testing.T) {
	t.Parallel()
	c := newCluster(t, "encmesh")
	c.n1.Shell(t.Context(), "echo y | docker network rm ingress")
	c.eventually(20*time.Second, "there is another mesh", func() error {
		if r := c.docker(c.n1, "network", "create", "-d", "overlay", "--ingress", "--opt", "encrypted", "mesh"); r.Code != 0 {
			return errors.New(r.Text())
		}
		return nil
	})
	c.create(c.n1, "--name", "web", "-p", "8080:80", "--constraint", "node.hostname==n2", "srv:1")
	for _, n := range c.Nodes() {
		c.eventually(20*time.Second, n.Name+" answers", func() error {
			_, err := c.get("http://" + n.Addr + ":8080/")
			return err
		})
	}
	c.allAgree("for the mesh")
	sniffer := c.sniff()
	// From the node itself: on the wire there is only what the mesh sends.
	if out := c.inside(c.n1.Namespace(), "curl", "-sS", "--max-time", "5", "http://127.0.0.1:8080/"+marker); out == "" {
		t.Error("no answer")
	}
	if sniffer.Seen() > 0 || sniffer.Total() == 0 {
		t.Errorf("of %d packets, %d could be read", sniffer.Total(), sniffer.Seen())
	}
}
