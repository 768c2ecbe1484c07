package e2e

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestPlacement(t *testing.T) {
	t.Parallel()
	c := newCluster(t, "placement")
	nodesOf := func(service string) string {
		rows := c.rows(c.n1, "service", "ps", service, "--filter", "desired-state=running", "--format", "{{.Node}}")
		slices.Sort(rows)
		return strings.Join(rows, " ")
	}
	c.create(c.n1, "--name", "everywhere", "--mode", "global", "busybox", "sleep", "1d")
	if got := nodesOf("everywhere"); got != "n1 n2 n3" {
		t.Errorf("global on %s", got)
	}
	c.create(c.n1, "--name", "workers", "--replicas", "4", "--constraint", "node.role!=manager", "busybox", "sleep", "1d")
	if got := nodesOf("workers"); got != "n2 n2 n3 n3" {
		t.Errorf("node.role!=manager on %s", got)
	}
	c.ok(c.n1, "service", "create", "-d", "--name", "ssd", "--constraint", "node.labels.disk==ssd", "busybox", "sleep", "1d")
	c.eventually(10*time.Second, "the task says why it is not placed", func() error {
		row := c.ok(c.n1, "service", "ps", "ssd", "--no-trunc", "--format", "{{.CurrentState}} {{.Error}}")
		if !strings.HasPrefix(row, "Pending") || !strings.Contains(row, "no suitable node (scheduling constraints not satisfied on 3 nodes)") {
			return fmt.Errorf("%s", row)
		}
		return nil
	})
	c.ok(c.n1, "node", "update", "--label-add", "disk=ssd", "n2")
	c.eventually(10*time.Second, "the task runs on the labelled node", func() error {
		if got := nodesOf("ssd"); got != "n2" {
			return fmt.Errorf("on %q", got)
		}
		return c.running("ssd", 1)
	})
	c.refused(c.n1, 1, "scale can only be used with replicated or replicated-job mode", "service", "scale", "everywhere=2")
}

func TestLookingAtAService(t *testing.T) {
	t.Parallel()
	c := newCluster(t, "look")
	c.create(c.n1, "--name", "talk", "--replicas", "3", "--label", "tier=back", "busybox",
		"sh", "-c", `echo "hello from $(hostname)"; echo problem >&2; exec sleep 1d`)
	c.eventually(10*time.Second, "each task's lines in the service's log", func() error {
		r := c.docker(c.n1, "service", "logs", "talk")
		if got := strings.Count(r.Stdout, "hello from"); got != 3 || strings.Count(r.Stderr, "problem") != 3 {
			return fmt.Errorf("%d hellos:\n%s", got, r.Text())
		}
		for _, n := range c.Nodes() {
			if !strings.Contains(r.Stdout, "@"+n.Name) {
				return fmt.Errorf("no line of %s:\n%s", n.Name, r.Stdout)
			}
		}
		return nil
	})
	for _, n := range c.Nodes() {
		id := c.ok(n, "ps", "-q", "--no-trunc", "--filter", "label=com.docker.swarm.service.name=talk")
		if got := c.ok(n, "exec", id, "hostname"); !strings.HasPrefix(id, got) || got == "" {
			t.Errorf("exec in %s says it is %s", id, got)
		}
		if r := c.docker(n, "exec", id, "sh", "-c", "exit 7"); r.Code != 7 {
			t.Errorf("exit 7 in a task gave %d: %s", r.Code, r.Text())
		}
		if got := c.docker(n, "logs", id); !strings.HasPrefix(got.Stdout, "hello from "+id[:12]) || got.Stderr != "problem\n" {
			t.Errorf("docker logs on %s: %q %q", n.Name, got.Stdout, got.Stderr)
		}
	}
	var service struct {
		ID   string
		Spec struct {
			Name   string
			Labels map[string]string
			Mode   struct{ Replicated struct{ Replicas int } }
		}
	}
	c.inspect(c.n1, &service, "service", "inspect", "talk")
	if service.Spec.Name != "talk" || service.Spec.Labels["tier"] != "back" || service.Spec.Mode.Replicated.Replicas != 3 {
		t.Errorf("service inspect: %+v", service)
	}
	var task struct {
		ServiceID    string
		DesiredState string
		Status       struct{ State string }
		NodeID       string
	}
	c.inspect(c.n1, &task, "inspect", c.rows(c.n1, "service", "ps", "talk", "-q", "--no-trunc")[0])
	if task.ServiceID != service.ID || task.Status.State != "running" || task.DesiredState != "running" {
		t.Errorf("inspect of a task: %+v", task)
	}
	var node struct {
		ID          string
		Description struct {
			Hostname string
			Engine   struct{ EngineVersion string }
		}
		Status struct{ State, Addr string }
	}
	c.inspect(c.n1, &node, "node", "inspect", task.NodeID)
	if node.ID != task.NodeID || node.Status.State != "ready" || node.Description.Engine.EngineVersion == "" {
		t.Errorf("node inspect: %+v", node)
	}
	var network struct {
		Name, Scope, Driver string
		Ingress             bool
		IPAM                struct {
			Config []struct{ Subnet, Gateway string }
		}
	}
	c.inspect(c.n1, &network, "network", "inspect", "ingress")
	if network.Scope != "swarm" || network.Driver != "overlay" || !network.Ingress || len(network.IPAM.Config) == 0 || network.IPAM.Config[0].Subnet != "10.0.0.0/24" {
		t.Errorf("network inspect: %+v", network)
	}
}

func TestBadInputIsRefusedAsDockerDoes(t *testing.T) {
	t.Parallel()
	c := newCluster(t, "refuse")
	c.ok(c.n1, "network", "create", "-d", "overlay", "--subnet", "10.55.0.0/24", "o1")
	c.create(c.n1, "--name", "p1", "-p", "8080:80", "nginx")
	before := c.ok(c.n1, "service", "ls") + c.ok(c.n1, "network", "ls")
	const notManager = "This node is not a swarm manager. Worker nodes can't be used to view or modify cluster state. Please run this command on a manager node or promote the current node to a manager."
	for _, tc := range []struct {
		text string
		args string
	}{
		{`network nosuch not found`, "service create -d --name x --network nosuch nginx"},
		{`rpc error: code = AlreadyExists desc = name conflicts with an existing object: service p1 already exists`, "service create -d --name p1 nginx"},
		{`rpc error: code = InvalidArgument desc = port '8080' is already in use by service 'p1' \([0-9a-z]{25}\) as an ingress port`, "service create -d --name p2 -p 8080:80 nginx"},
		{`network with name o1 already exists`, "network create -d overlay o1"},
		{`Pool overlaps with other one on this address space`, "network create -d overlay --subnet 10.55.0.128/25 o2"},
		{`Pool overlaps with other one on this address space`, "network create -d overlay --subnet 10.0.0.0/24 o2"},
		{`invalid subnet fd00:77::/64: IPv6 has not been enabled for this network`, "network create -d overlay --subnet fd00:77::/64 six"},
		{`rpc error: code = Unknown desc = constraint expected one operator from ==, !=`, "service create -d --constraint bogus --name m nginx"},
		{`code = InvalidArgument desc = name must be valid as a DNS name component`, "service create -d --name -x nginx"},
		{`ContainerSpec: "BAD:image" is not a valid repository/tag`, "service create -d --no-resolve-image --name i BAD:image"},
		{`This node is already part of a swarm. Use "docker swarm leave" to leave this swarm and join another one.`, "swarm init --advertise-addr 10.77.0.11"},
	} {
		c.refused(c.n1, 1, tc.text, strings.Fields(tc.args)...)
	}
	if after := c.ok(c.n1, "service", "ls") + c.ok(c.n1, "network", "ls"); after != before {
		t.Errorf("refused commands changed something:\n%s\nwas:\n%s", after, before)
	}
	for _, args := range []string{"service ls", "service create nginx", "service ps x", "service rm x", "node ls", "swarm join-token worker"} {
		c.refused(c.n2, 1, notManager, strings.Fields(args)...)
	}
	token := c.ok(c.n1, "swarm", "join-token", "-q", "worker")
	c.refused(c.n2, 1, "This node is already part of a swarm", "swarm", "join", "--token", token, "10.77.0.11:2377")
	c.ok(c.n3, "swarm", "leave")
	c.refused(c.n3, 1, "invalid join token", "swarm", "join", "--token", "SWMTKN-1-bad", "10.77.0.11:2377")
	c.refused(c.n3, 1, "rpc error: code = InvalidArgument desc = A valid join token is necessary to join this cluster",
		"swarm", "join", "--token", token[:len(token)-25]+strings.Repeat("0", 25), "10.77.0.11:2377")
	c.refused(c.n3, 1, "remote CA does not match fingerprint. Expected: 0{64}",
		"swarm", "join", "--token", "SWMTKN-1-"+strings.Repeat("0", 50)+token[len(token)-26:], "10.77.0.11:2377")
	c.refused(c.n3, 1, `rpc error: code = Unavailable desc = connection error: desc = "transport: Error while dialing: dial tcp 10.77.0.12:2377: connect: connection refused"`,
		"swarm", "join", "--token", token, "10.77.0.12:2377")
	c.ok(c.n3, "swarm", "join", "--token", token, "10.77.0.11:2377")

	c.ok(c.n1, "service", "create", "-d", "--no-resolve-image", "--name", "noimg", "localhost:1/nosuch:1")
	c.eventually(20*time.Second, "the task says that there is no such image", func() error {
		row := c.ok(c.n1, "service", "ps", "noimg", "--no-trunc", "--format", "{{.CurrentState}} {{.Error}}")
		if !strings.Contains(row, "Rejected") || !strings.Contains(row, "No such image: localhost:1/nosuch:1") {
			return fmt.Errorf("%s", row)
		}
		return nil
	})
}
