package e2e

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/shoal-dev/shoal/internal/shoal"
)

func TestTheMeshAnswersOnEveryNode(t *testing.T) {
	c := newCluster(t, "mesh")
	printed := c.ok(c.n1, "service", "create", "--name", "my-web", "--publish", "published=8080,target=80", "--replicas", "2", "nginx")
	for _, want := range []string{"overall progress: 2 out of 2 tasks", "Service ", " converged"} {
		if !strings.Contains(printed, want) {
			t.Errorf("service create does not print %q:\n%s", want, printed)
		}
	}
	for _, row := range c.rows(c.n1, "service", "ps", "my-web", "--format", "{{.Name}} {{.Node}} {{.DesiredState}} {{.CurrentState}}") {
		fields := strings.Fields(row)
		if !strings.HasPrefix(fields[0], "my-web.") || !strings.HasPrefix(fields[1], "n") || fields[2] != "Running" || fields[3] != "Running" {
			t.Errorf("service ps: %s", row)
		}
	}
	for _, n := range c.Nodes() {
		url := "http://" + n.Addr + ":8080/"
		c.eventually(5*time.Second, "nginx answers at "+url, func() error {
			body, err := c.get(url)
			if err == nil && !strings.Contains(body, "nginx") {
				err = fmt.Errorf("not nginx's page: %.80s", body)
			}
			return err
		})
	}
	c.spreadEvenly("my-web", 300)
	c.follow("my-web")
}

// spreadEvenly sends requests to each node and counts, from the tasks' own access logs, who answered. The client is a new one: if a
// port of an old client meets, in a task, what is left of an older connection through another node, the client must try again,
// and then it is another task's turn.
func (c *cluster) spreadEvenly(service string, requests int) {
	c.t.Helper()
	tasks := c.rows(c.n1, "service", "ps", service, "--filter", "desired-state=running", "-q", "--no-trunc")
	fresh, err := c.AddHost("c"+shoal.NewID[string]()[:6], 101+len(c.fresh))
	if err != nil {
		c.t.Fatal(err)
	}
	c.fresh = append(c.fresh, fresh)
	client := httpFrom(fresh)
	for _, n := range c.Nodes() {
		marker := "/spread-" + shoal.NewID[string]()
		for range requests {
			resp, err := client.Get("http://" + n.Addr + ":8080" + marker)
			if err != nil {
				c.t.Fatalf("over %s: %v", n.Name, err)
			}
			_ = resp.Body.Close()
		}
		for _, task := range tasks {
			c.eventually(5*time.Second, "even spread over "+n.Name, func() error {
				got, want := strings.Count(c.docker(c.n1, "service", "logs", "--raw", task).Stdout, marker+" "), requests/len(tasks)
				if got*100 < want*95 || got*100 > want*105 {
					return fmt.Errorf("task %s answered %d of %d requests over %s, want %d ± 5 %%", task, got, requests, n.Name, want)
				}
				return nil
			})
		}
	}
}

// follow scales a published service under load: the mesh follows, and scaling up costs no request.
func (c *cluster) follow(service string) {
	c.t.Helper()
	l := c.startLoad(8080)
	c.ok(c.n1, "service", "scale", service+"=4")
	l.finish()
	c.spreadEvenly(service, 300)
	c.ok(c.n1, "service", "scale", service+"=1")
	for _, n := range c.Nodes() {
		if _, err := c.get("http://" + n.Addr + ":8080/"); err != nil {
			c.t.Errorf("after scaling to one: %v", err)
		}
	}
	c.ok(c.n1, "service", "rm", service)
	for _, n := range c.Nodes() {
		c.eventually(15*time.Second, "the port is closed", func() error {
			if _, err := c.get("http://" + n.Addr + ":8080/"); err == nil {
				return fmt.Errorf("%s still answers", n.Name)
			}
			return nil
		})
	}
}

// containerNetworks is a container's addresses by network.
func (c *cluster) taskAddresses(service string) map[string]string {
	c.t.Helper()
	addresses := map[string]string{}
	for _, n := range c.Nodes() {
		for _, id := range c.rows(n, "ps", "-q", "--filter", "label=com.docker.swarm.service.name="+service) {
			var networks map[string]struct{ IPAddress string }
			text := c.ok(n, "container", "inspect", id, "--format", "{{json .NetworkSettings.Networks}}")
			if err := json.Unmarshal([]byte(text), &networks); err != nil {
				c.t.Fatal(err)
			}
			for name, network := range networks {
				addresses[name] = network.IPAddress
			}
		}
	}
	return addresses
}

func TestServicesFindEachOtherOnAnOverlay(t *testing.T) {
	t.Parallel()
	c := newCluster(t, "overlay")
	c.ok(c.n1, "network", "create", "-d", "overlay", "--subnet", "20.20.20.0/24", "testoverlay")
	c.create(c.n1, "--name", "web", "--network", "testoverlay", "-p", "8002:80", "--replicas", "3", "nginx")
	addresses := c.taskAddresses("web")
	if !strings.HasPrefix(addresses["ingress"], "10.0.0.") || !strings.HasPrefix(addresses["testoverlay"], "20.20.20.") {
		t.Errorf("a task's networks: %v", addresses)
	}
	for _, n := range c.Nodes() {
		if _, err := c.get("http://" + n.Addr + ":8002/"); err != nil {
			t.Error(err)
		}
	}
	c.create(c.n1, "--name", "caller", "--network", "testoverlay", "--mode", "global", "busybox", "sleep", "1d")
	vip := c.ok(c.n1, "service", "inspect", "web", "--format", `{{range .Endpoint.VirtualIPs}}{{.Addr}} {{end}}`)
	for _, n := range c.Nodes() {
		caller := c.ok(n, "ps", "-q", "--filter", "label=com.docker.swarm.service.name=caller")
		name := c.ok(n, "exec", caller, "nslookup", "-type=a", "web", "127.0.0.11")
		_, answer, _ := strings.Cut(name, "Name:")
		_, addr, _ := strings.Cut(answer, "Address: ")
		addr, _, _ = strings.Cut(strings.TrimSpace(addr), "\n")
		if addr == "" || !strings.Contains(vip, addr+"/24") {
			t.Errorf("on %s web is %q, its addresses are %s", n.Name, addr, vip)
		}
		tasks := c.ok(n, "exec", caller, "nslookup", "-type=a", "tasks.web", "127.0.0.11")
		if got := strings.Count(tasks, "Address: 20.20.20."); got != 3 {
			t.Errorf("on %s tasks.web has %d addresses:\n%s", n.Name, got, tasks)
		}
		for range 9 {
			c.ok(n, "exec", caller, "wget", "-qO", "/dev/null", "http://web/")
		}
	}
}

func TestPlainContainersOnOverlays(t *testing.T) {
	t.Parallel()
	c := newCluster(t, "attach")
	c.ok(c.n1, "network", "create", "-d", "overlay", "closed")
	c.ok(c.n1, "network", "create", "-d", "overlay", "--attachable", "--subnet", "10.55.0.0/24", "open")
	c.refused(c.n1, 125, "failed to set up container networking: Could not attach to network closed: rpc error: code = PermissionDenied desc = network closed not manually attachable",
		"run", "--rm", "--network", "closed", "busybox", "true")
	c.ok(c.n3, "run", "-d", "--name", "server", "--network", "open", "nginx")
	c.ok(c.n1, "run", "-d", "--name", "fixed", "--network", "open", "--network-alias", "al", "--ip", "10.55.0.77", "nginx")
	for _, name := range []string{"server", "al", "fixed"} {
		body := c.ok(c.n2, "run", "--rm", "--network", "open", "busybox", "wget", "-qO-", "http://"+name+"/")
		if !strings.Contains(body, "nginx") {
			t.Errorf("%s answers %.80q", name, body)
		}
	}
	if got := c.ok(c.n1, "inspect", "fixed", "--format", "{{.NetworkSettings.Networks.open.IPAddress}}"); got != "10.55.0.77" {
		t.Errorf("--ip 10.55.0.77 gave %s", got)
	}
	c.refused(c.n1, 1, "is in use by task", "network", "rm", "open")
	c.ok(c.n1, "rm", "-f", "fixed")
	c.ok(c.n3, "rm", "-f", "server")
	c.eventually(5*time.Second, "the network can go", func() error {
		if r := c.docker(c.n1, "network", "rm", "open", "closed"); r.Code != 0 && !strings.Contains(r.Text(), "closed not found") {
			return fmt.Errorf("%s", r.Text())
		}
		return nil
	})
}
