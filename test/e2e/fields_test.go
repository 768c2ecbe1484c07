package e2e

import (
	"net/http"
	"net/url"
	"strings"
)

// fieldsOfTheContainersNetwork: what a container is asked to know of names is in its files.
func (c *cluster) fieldsOfTheContainersNetwork() {
	c.t.Helper()
	c.ok(c.n1, "network", "create", "--ipam-opt", "a=b", "named")
	args := []string{"--dns", "192.0.2.53", "--dns-option", "ndots:3", "--dns-search", "example.test", "--add-host", "extra:192.0.2.9", "--add-host", "gw:host-gateway", "busybox", "cat", "/etc/resolv.conf", "/etc/hosts"}
	for network, want := range map[string][]string{"bridge": {"nameserver 192.0.2.53\n"}, "named": {"nameserver 127.0.0.11\n"}} {
		got := c.ok(c.n1, append([]string{"run", "--rm", "--network", network}, args...)...)
		for _, line := range append(want, "ndots:3", "search example.test\n", "192.0.2.9\textra\n", "\tgw") {
			if !strings.Contains(got, line) {
				c.t.Errorf("on %s: %q lacks %q", network, got, line)
			}
		}
	}
	if got := c.ok(c.n1, "network", "inspect", "named", "-f", "{{.IPAM.Options}}"); got != "map[a:b]" {
		c.t.Errorf("options of addresses: %s", got)
	}
	c.ok(c.n1, "network", "rm", "named")
	for body, want := range map[string]string{`{"Name":"x","Scope":"swarm"}`: "cannot create a swarm scoped network with the bridge driver", `{"Name":"x","Scope":"galaxy"}`: "invalid network scope"} {
		if status, text := c.send(c.n1, "1.51", http.MethodPost, "/networks/create", body); status != http.StatusBadRequest || !strings.Contains(text, want) {
			c.t.Errorf("%s: %d %s", body, status, text)
		}
	}
}

// unknownFiltersAreRefused by every list, prune and stream, on a manager.
func (c *cluster) unknownFiltersAreRefused() {
	c.t.Helper()
	for _, endpoint := range []string{
		"GET /containers/json", "GET /images/json", "GET /networks", "GET /volumes", "GET /events", "GET /plugins", "GET /nodes", "GET /services", "GET /tasks", "GET /secrets", "GET /configs",
		"GET /images/search", "POST /containers/prune", "POST /images/prune", "POST /networks/prune", "POST /volumes/prune", "POST /build/prune",
	} {
		method, path, _ := strings.Cut(endpoint, " ")
		status, text := c.send(c.n1, "1.51", method, path+"?term=x&filters="+url.QueryEscape(`{"nosuch":["x"]}`), "")
		if status != http.StatusBadRequest || !strings.Contains(text, "invalid filter 'nosuch'") {
			c.t.Errorf("%s with an unknown filter: %d %s", endpoint, status, text)
		}
	}
	// A network of the cluster is used by a service, whether a task of it is here or not.
	c.ok(c.n1, "network", "create", "-d", "overlay", "busy")
	c.ok(c.n1, "network", "create", "-d", "overlay", "idle")
	c.create(c.n1, "--name", "elsewhere", "--network", "busy", "--replicas", "0", "busybox")
	if got := c.ok(c.n1, "network", "ls", "-f", "dangling=true", "-f", "driver=overlay", "--format", "{{.Name}}"); got != "idle" {
		c.t.Errorf("networks that nothing uses: %s", got)
	}
	// Settings of Raft that have no effect are warned of.
	c.ok(c.n1, "swarm", "update", "--snapshot-interval", "5000")
	if got := c.docker(c.n1, "info").Text(); !strings.Contains(got, "WARNING: The Raft settings of the swarm have no effect") {
		c.t.Errorf("info: %s", got)
	}
	for method, body := range map[string]string{http.MethodPost: `{"Name":"v","ClusterVolumeSpec":{}}`, http.MethodPut: `{}`} {
		path := map[string]string{http.MethodPost: "/volumes/create", http.MethodPut: "/volumes/shaped?version=1"}[method]
		if status, text := c.send(c.n1, "1.51", method, path, body); status != http.StatusNotImplemented || !strings.Contains(text, "cluster volumes: not supported by this engine") {
			c.t.Errorf("%s %s: %d %s", method, path, status, text)
		}
	}
}
