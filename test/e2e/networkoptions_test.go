package e2e

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/network"
	"github.com/moby/moby/api/types/swarm"
	"github.com/moby/moby/client"
)

// optionsOfNetworks: what was asked for networks and endpoints was shown, and had no effect.
func (c *cluster) optionsOfNetworks() {
	c.t.Helper()
	n1 := c.n1
	c.ok(n1, "network", "create", "na")
	c.ok(n1, "network", "create", "--ipv6", "nb")
	c.ok(n1, "run", "-d", "--name", "db", "--hostname", "db-host", "--network", "na", "busybox", "sleep", "1000")
	c.ok(n1, "run", "-d", "--name", "web", "--hostname", "web-host", "-p", "8099:80", "--link", "db:store", "--network", "name=na,link-local-ip=169.254.8.8",
		"--network", "name=nb,gw-priority=1,driver-opt=com.docker.network.endpoint.ifname=front0,driver-opt=com.docker.network.endpoint.sysctls=net.ipv4.conf.IFNAME.log_martians=1",
		"busybox", "sleep", "1000")
	if got := c.ok(n1, "exec", "web", "sh", "-c", "ip route; ip addr; cat /proc/sys/net/ipv4/conf/front0/log_martians"); !strings.Contains(got, "dev front0") ||
		!strings.Contains(got, "169.254.8.8/16") || !strings.HasSuffix(got, "\n1") || strings.Contains(got, "default via") != strings.Contains(got, "dev front0") {
		c.t.Errorf("interfaces: %s", got)
	}
	var web container.InspectResponse
	c.inspect(n1, &web, "inspect", "web")
	ports := fmt.Sprint(web.NetworkSettings.Ports[network.MustParsePort("80/tcp")])
	if web.NetworkSettings.Networks["nb"].GwPriority != 1 || !strings.Contains(ports, "{0.0.0.0 8099}") || !strings.Contains(ports, "{:: 8099}") {
		c.t.Errorf("priority %d, ports %s", web.NetworkSettings.Networks["nb"].GwPriority, ports)
	}
	for _, name := range []string{"db-host", "web-host"} {
		c.ok(n1, "exec", "web", "ping", "-c", "1", "-W", "5", name)
	}
	c.ok(n1, "network", "create", "--ipv4=false", "--ipv6", "six")
	c.ok(n1, "network", "connect", "--gw-priority", "7", "six", "web")
	if got := c.ok(n1, "exec", "web", "ip", "addr", "show", "eth1"); strings.Contains(got, "inet ") || !strings.Contains(got, "inet6 fd") {
		c.t.Errorf("on a network without IPv4: %s", got)
	}
	short := c.ok(n1, "network", "inspect", "na", "--format", "{{.ID}}")[:10]
	c.ok(n1, "run", "-d", "--name", "mac", "--network", short, "--mac-address", "02:42:08:26:a9:55", "busybox", "sleep", "1000")
	if got := c.ok(n1, "inspect", "mac", "--format", "{{.NetworkSettings.Networks.na.MacAddress}}"); got != "02:42:08:26:a9:55" {
		c.t.Errorf("hardware address by a short network ID: %s", got)
	}
	c.refused(n1, 1, "unrecognised network interface sysctl 'x'", "network", "connect", "--driver-opt", "com.docker.network.endpoint.sysctls=x", "nb", "db")
	c.refused(n1, 1, "operation is not permitted on predefined bridge network", "network", "create", "bridge")
	c.refused(n1, 1, "bridge driver doesn't support multiple subnets", "network", "create", "--subnet", "10.71.0.0/24", "--subnet", "10.72.0.0/24", "x")
	c.refused(n1, 1, "unknown gateway mode open", "network", "create", "-o", "com.docker.network.bridge.gateway_mode_ipv4=open", "x")
	c.refused(n1, 1, `plugin "nosuch" not found`, "network", "create", "--ipam-driver", "nosuch", "x")
	c.refused(n1, 1, "requested ipvlan mode 'l9' is not valid", "network", "create", "-d", "ipvlan", "-o", "ipvlan_mode=l9", "x")
	c.ok(n1, "rm", "-f", "web", "db", "mac")
	c.ok(n1, "network", "rm", "na", "nb", "six")
}

// servicesOfTheNodesNetworks: a service on the network host was on the default bridge, data that refers to other data failed, and jobs had no numbers.
func (c *cluster) servicesOfTheNodesNetworks() {
	c.t.Helper()
	n1 := c.n1
	var before swarm.Node
	c.inspect(n1, &before, "node", "inspect", "n1")
	stdin := func(text string, args ...string) {
		c.t.Helper()
		if r := c.shoal(n1, text, args...); r.Code != 0 {
			c.t.Fatalf("%s: %s", strings.Join(args, " "), r.Text())
		}
	}
	stdin("hush", "secret", "create", "password", "-")
	stdin(`{{env "WHO"}} {{secret "pw"}} {{config "/plain"}}`, "config", "create", "--template-driver", "golang", "filled", "-")
	stdin("text", "config", "create", "plain", "-")
	c.create(n1, "--name", "hosted", "--network", "host", "--constraint", "node.hostname==n1", "--env", "WHO={{.Node.Hostname}}", "--secret", "source=password,target=pw",
		"--config", "source=filled,target=/filled", "--config", "source=plain,target=/plain", "busybox", "sleep", "1000")
	task := func() string { return c.ok(n1, "ps", "-q", "--filter", "label=com.docker.swarm.service.name=hosted") }
	if got := c.ok(n1, "exec", task(), "sh", "-c", "cat /filled; ls /sys/class/net"); !strings.HasPrefix(got, "n1 hush text") || !strings.Contains(got, "docker0") {
		c.t.Errorf("a service on the host's network: %s", got)
	}
	c.refused(n1, 1, "cannot be published in ingress mode", "service", "create", "--network", "host", "--publish", "8098:80", "busybox")
	c.ok(n1, "service", "create", "-d", "-q", "--no-resolve-image", "--name", "job", "--mode", "replicated-job", "busybox", "true")
	var job swarm.Service
	c.inspect(n1, &job, "service", "inspect", "job")
	if m := job.Spec.Mode.ReplicatedJob; m == nil || m.MaxConcurrent == nil || *m.MaxConcurrent != 1 || m.TotalCompletions == nil || *m.TotalCompletions != 1 {
		c.t.Errorf("numbers of a job: %+v", m)
	}
	c.ok(n1, "service", "rm", "job", "hosted")
	if _, err := c.api(n1).TaskList(c.t.Context(), client.TaskListOptions{Filters: make(client.Filters).Add("service", "hosted")}); err == nil || !strings.Contains(err.Error(), "service hosted not found") {
		c.t.Errorf("tasks of a service that is removed: %v", err)
	}
	c.ok(n1, "network", "create", "-d", "overlay", "--attachable", "twice")
	c.ok(n1, "create", "--name", "idle2", "--network", "twice", "busybox", "sleep", "1000")
	c.ok(n1, "network", "connect", "--alias", "again", "twice", "idle2")
	c.ok(n1, "start", "idle2")
	c.ok(n1, "exec", "idle2", "ping", "-c", "1", "-W", "5", "again")
	c.ok(n1, "rm", "-f", "idle2")
	c.refused(n1, 1, "secret driver \"vault\" not found", "secret", "create", "--driver", "vault", "elsewhere")
	c.eventually(30*time.Second, "the service's container ends", func() error {
		if got := task(); got != "" {
			return errors.New(got)
		}
		return nil
	})
	var after swarm.Node
	c.inspect(n1, &after, "node", "inspect", "n1")
	if before.Version != after.Version {
		c.t.Errorf("the node's version went from %d to %d while nothing of it changed", before.Version.Index, after.Version.Index)
	}
}

// anAdvertisedPort: a node that advertises another port than it listens on called itself there, and `swarm init` timed out. n3 leaves the cluster for it.
func (c *cluster) anAdvertisedPort() {
	c.t.Helper()
	c.ok(c.n3, "swarm", "leave")
	c.ok(c.n3, "swarm", "init", "--advertise-addr", c.n3.Addr+":5000", "--listen-addr", "0.0.0.0:2377")
	c.eventually(10*time.Second, "n3 leads its own cluster", func() error {
		if got := c.ok(c.n3, "node", "ls", "--format", "{{.Hostname}} {{.Status}} {{.ManagerStatus}}"); got != "n3 Ready Leader" {
			return errors.New(got)
		}
		return nil
	})
}
