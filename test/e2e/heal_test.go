package e2e

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/shoal-dev/shoal/test/lab"
	"github.com/shoal-dev/shoal/test/load"
)

// inside runs a program in the network namespace of a node, or in one that the node has made there.
func (c *cluster) inside(namespace string, args ...string) string {
	c.t.Helper()
	var out bytes.Buffer
	cmd := exec.CommandContext(c.t.Context(), "nsenter", append([]string{"--net=" + namespace, "--"}, args...)...)
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Run(); err != nil {
		c.t.Fatalf("%s: %v: %s", strings.Join(args, " "), err, out.String())
	}
	return out.String()
}

// healLimit is how soon what somebody has done to the kernel must be undone.
const healLimit = 2 * time.Second

// What is done to a node's kernel by hand is undone within two seconds, under load, and the doctor names it.
func TestTheNetworkHealsItself(t *testing.T) {
	c := newCluster(t, "heal")
	c.ok(c.n1, "network", "create", "-d", "overlay", "--attachable", "net")
	c.create(c.n1, "--name", "web", "--network", "net", "--mode", "global", "-p", "8080:80", "srv:1")
	c.ok(c.n1, "run", "-d", "--name", "caller", "--network", "net", "srv:1")
	c.healthy()
	background := load.Start(t.Context(), load.Config{URLs: c.everyNode(8080), Dial: c.client.Dial})
	defer background.Stop()

	node := c.n1.Namespace()
	network := c.ok(c.n1, "network", "inspect", "net", "--format", "{{.ID}}")
	overlay := c.n1.ExecRoot() + "/netns/" + overlayNamespace(c, c.n1, network)
	for _, damage := range []struct {
		name  string
		named string // by the doctor
		do    func()
	}{
		{"nft flush ruleset on the node", "published ports", func() { c.inside(node, "nft", "flush", "ruleset") }},
		{"bridge fdb del", "overlay network net", func() {
			entry := remoteEntry(c.inside(overlay, "bridge", "fdb", "show", "dev", "vx0"))
			c.inside(overlay, append([]string{"bridge", "fdb", "del"}, entry...)...)
		}},
		{"ip link del of the routing mesh's device", "routing mesh", func() { c.inside(node, "ip", "link", "del", "ing0") }},
		{"ip link del of docker_gwbridge", "docker_gwbridge", func() { c.inside(node, "ip", "link", "del", "docker_gwbridge") }},
		{"ip link del of a container's veth", "container caller", func() {
			pid := c.ok(c.n1, "inspect", "caller", "--format", "{{.State.Pid}}")
			c.inside("/proc/"+pid+"/ns/net", "ip", "link", "del", "eth0")
		}},
		{"link set down", "overlay network net", func() { c.inside(overlay, "ip", "link", "set", "br0", "down") }},
		{"nft flush ruleset in a container", "container caller", func() {
			pid := c.ok(c.n1, "inspect", "caller", "--format", "{{.State.Pid}}")
			c.inside("/proc/"+pid+"/ns/net", "nft", "flush", "ruleset")
		}},
	} {
		before := c.repairs(c.n1)
		damage.do()
		began := time.Now()
		c.eventually(healLimit, damage.name+" is undone", func() error {
			if c.repairs(c.n1) == before {
				return fmt.Errorf("no repair yet")
			}
			return c.everythingWorks()
		})
		t.Logf("%s: undone after %v", damage.name, time.Since(began).Round(time.Millisecond))
		// The doctor would have mended it too, so it is asked only now.
		_, named, _ := strings.Cut(c.shoal(c.n1, "", "doctor").Stdout, "repaired since")
		if !strings.Contains(named, damage.named) {
			t.Errorf("%s: the doctor names %s", damage.name, named)
		}
	}
	c.healthy()
	t.Logf("%d requests, %d failed meanwhile", background.Sent(), background.Failed())
}

// overlayNamespace is the name of a network's namespace on a node.
func overlayNamespace(c *cluster, n *lab.Node, network string) string {
	c.t.Helper()
	for entry := range strings.FieldsSeq(c.inside(n.Namespace(), "ls", n.ExecRoot()+"/netns")) {
		if strings.Contains(entry, network[:10]) {
			return entry
		}
	}
	c.t.Fatalf("network %s has no namespace", network)
	return ""
}

// remoteEntry picks the arguments by which one forwarding entry to another node is deleted.
func remoteEntry(table string) []string {
	for line := range strings.Lines(table) {
		f := strings.Fields(line)
		for i, word := range f {
			if word == "dst" && f[0] != "00:00:00:00:00:00" {
				return []string{f[0], "dev", "vx0", "dst", f[i+1], "self"}
			}
		}
	}
	return nil
}

// everythingWorks calls the service through the mesh of every node, and through its virtual address from a container.
func (c *cluster) everythingWorks() error {
	for range 3 { // once for each task
		for _, url := range c.everyNode(8080) {
			if _, err := c.get(url); err != nil {
				return err
			}
		}
		if r := c.docker(c.n1, "exec", "caller", "timeout", "1", "wget", "-qO-", "http://web/"); r.Code != 0 {
			return fmt.Errorf("through the virtual address: %s", r.Text())
		}
	}
	return nil
}

// repairs is how often the node has logged that it was repaired.
func (c *cluster) repairs(n *lab.Node) int {
	c.t.Helper()
	text, err := os.ReadFile(n.Log())
	if err != nil {
		c.t.Fatal(err)
	}
	return bytes.Count(text, []byte("was changed by others"))
}

// healthy wants the doctor to find nothing wrong on any node, and each node to reach each other.
func (c *cluster) healthy() {
	c.t.Helper()
	c.eventually(10*time.Second, "all nodes are healthy", func() error {
		r := c.shoal(c.n1, "", "doctor", "--all")
		if r.Code != 0 || strings.Count(r.Stdout, "healthy (") != 3 || strings.Count(r.Stdout, "packets of 1500 bytes") != 6 {
			return fmt.Errorf("exit %d\n%s", r.Code, r.Text())
		}
		return nil
	})
}

// Debian's nft aborted when it was asked for the tables of a node or of a container.
func TestOperatorsCanListTheRules(t *testing.T) {
	t.Parallel()
	c := newCluster(t, "rules")
	c.ok(c.n1, "network", "create", "-d", "overlay", "net")
	c.create(c.n1, "--name", "web", "--network", "net", "--mode", "global", "-p", "8080:80", "srv:1")
	if rules := c.inside(c.n1.Namespace(), "nft", "list", "ruleset"); !strings.Contains(rules, "tcp . 8080") {
		t.Errorf("the node's rules do not tell of port 8080:\n%s", rules)
	}
	pid := c.ok(c.n1, "inspect", c.ok(c.n1, "ps", "-q"), "--format", "{{.State.Pid}}")
	addr := c.ok(c.n1, "exec", c.ok(c.n1, "ps", "-q"), "sh", "-c", "nslookup -type=a web 127.0.0.11 | sed -n 's/^Address: //p'")
	if rules := c.inside("/proc/"+pid+"/ns/net", "nft", "list", "ruleset"); !strings.Contains(rules, addr+" :") {
		t.Errorf("the container's rules do not tell of %s:\n%s", addr, rules)
	}
}
