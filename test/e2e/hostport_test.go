package e2e

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

func TestHostModePortsAnswerOnlyWhereTheTaskIs(t *testing.T) {
	c := newCluster(t, "hostport")
	c.ok(c.n1, "service", "create", "-q", "--name", "web", "--publish", "mode=host,target=80,published=8090", "--constraint", "node.hostname==n2", "nginx")
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

// The published port of the mesh shows tasks the client's own address, whichever node it came in by.
func TestTasksSeeTheClientsAddress(t *testing.T) {
	c := newCluster(t, "address")
	c.ok(c.n1, "service", "create", "-q", "--name", "web", "-p", "8080:80", "nginx")
	for _, n := range c.Nodes() {
		path := "/via-" + n.Name
		resp, err := c.http().Get("http://" + n.Addr + ":8080" + path)
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		c.eventually(5*time.Second, "the request is logged", func() error {
			for line := range strings.Lines(c.docker(c.n1, "service", "logs", "--raw", "web").Stdout) {
				if strings.Contains(line, path+" ") {
					if from, _, _ := strings.Cut(line, " "); from != c.client.Addr {
						t.Errorf("over %s the client is %s to the task, not %s", n.Name, from, c.client.Addr)
					}
					return nil
				}
			}
			return fmt.Errorf("no line with %s", path)
		})
	}
}
