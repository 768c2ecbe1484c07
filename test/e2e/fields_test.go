package e2e

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"
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

// settingsOfACluster: what a cluster is made with is what it works with.
func (c *cluster) settingsOfACluster() {
	c.t.Helper()
	n := c.n2
	c.loadImages(n)
	c.ok(n, "swarm", "init", "--advertise-addr", n.Addr, "--listen-addr", n.Addr+":2377", "--data-path-addr", n.Addr, "--data-path-port", "5789", "--default-addr-pool", "10.200.0.0/16", "--default-addr-pool-mask-length", "26",
		"--task-history-limit", "2")
	c.ok(n, "network", "create", "-d", "overlay", "--attachable", "pooled")
	c.ok(n, "run", "-d", "--name", "on", "--network", "pooled", "busybox", "sleep", "1000")
	if got := c.ok(n, "network", "inspect", "pooled", "-f", "{{(index .IPAM.Config 0).Subnet}}"); !strings.HasPrefix(got, "10.200.") || !strings.HasSuffix(got, "/26") {
		c.t.Errorf("a subnet of the cluster's pool: %s", got)
	}
	overlay := n.ExecRoot() + "/netns/" + overlayNamespace(c, n, c.ok(n, "network", "inspect", "pooled", "-f", "{{.ID}}"))
	if got := c.inside(overlay, "ip", "-d", "link", "show", "vx0"); !strings.Contains(got, "dstport 5789") || !strings.Contains(got, "local "+n.Addr) {
		c.t.Errorf("the data path: %s", got)
	}
	c.create(n, "--name", "remembered", "--stop-grace-period", "100ms", "busybox", "sleep", "1000")
	for range 3 {
		c.ok(n, "service", "update", "-q", "--no-resolve-image", "--force", "remembered")
	}
	c.eventually(30*time.Second, "only the newest tasks are kept", func() error {
		if got := len(c.rows(n, "service", "ps", "-q", "remembered")); got > 2 {
			return fmt.Errorf("%d tasks", got)
		}
		return nil
	})
	for _, role := range []string{"worker", "manager"} {
		before := c.ok(n, "swarm", "join-token", "-q", role)
		if after := c.ok(n, "swarm", "join-token", "-q", "--rotate", role); after == before {
			c.t.Errorf("the token of a %s is what it was", role)
		}
	}
	version := func(path string) string {
		_, text := c.ask(n, "1.51", http.MethodGet, path)
		var object struct{ Version struct{ Index int } }
		if err := json.Unmarshal([]byte(text), &object); err != nil {
			c.t.Fatal(err)
		}
		return fmt.Sprint(object.Version.Index)
	}
	node := "/nodes/" + c.ok(n, "info", "--format", "{{.Swarm.NodeID}}")
	for path, update := range map[string]string{"/swarm": `{"Name":"default","Labels":{"a":"b"}}`, node: `{"Name":"named","Labels":{"a":"b"},"Role":"manager","Availability":"active"}`} {
		if status, text := c.send(n, "1.51", http.MethodPost, path+"/update?version="+version(path), update); status != http.StatusOK {
			c.t.Errorf("update of %s: %d %s", path, status, text)
		}
		if _, text := c.ask(n, "1.51", http.MethodGet, path); !strings.Contains(text, `"Labels":{"a":"b"}`) || path == node && !strings.Contains(text, `"Name":"named"`) {
			c.t.Errorf("%s after its update: %s", path, text)
		}
		if status, _ := c.send(n, "1.51", http.MethodPost, path+"/update?version=1", update); status < http.StatusBadRequest {
			c.t.Errorf("an update of an older version of %s: %d", path, status)
		}
	}
	if status, text := c.send(n, "1.51", http.MethodPost, "/swarm/update?version="+version("/swarm"), `{"Name":"other"}`); status != http.StatusBadRequest || !strings.Contains(text, "must be named") {
		c.t.Errorf("another name of the cluster: %d %s", status, text)
	}
}
