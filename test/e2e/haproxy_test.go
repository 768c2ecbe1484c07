package e2e

import (
	"encoding/csv"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/shoal-dev/shoal/test/images"
)

const haproxyConfig = `
defaults
	mode http
	timeout connect 2s
	timeout client 10s
	timeout server 10s
frontend web
	bind :80
	default_backend nodes
backend nodes
	balance roundrobin
	option redispatch
	default-server inter 500ms fall 2 rise 2
	server n1 10.77.0.11:8080 check
	server n2 10.77.0.12:8080 check
	server n3 10.77.0.13:8080 check
listen stats
	bind :8404
	stats enable
	stats uri /
`

// server is a line of HAProxy's statistics.
type server struct {
	status   string
	sessions int
}

// haproxyServers reads the statistics of the three nodes.
func (c *cluster) haproxyServers(addr string) (map[string]server, error) {
	text, err := c.get("http://" + addr + ":8404/;csv")
	if err != nil {
		return nil, err
	}
	rows, err := csv.NewReader(strings.NewReader(strings.TrimPrefix(text, "# "))).ReadAll()
	if err != nil {
		return nil, err
	}
	column := map[string]int{}
	for i, name := range rows[0] {
		column[name] = i
	}
	servers := map[string]server{}
	for _, row := range rows[1:] {
		if name := row[column["svname"]]; row[column["pxname"]] == "nodes" && name != "BACKEND" {
			sessions, err := strconv.Atoi(row[column["stot"]])
			if err != nil {
				return nil, err
			}
			servers[name] = server{row[column["status"]], sessions}
		}
	}
	return servers, nil
}

// Debian's HAProxy with a plain configuration in front of the mesh finds every node up and spreads evenly; a node that dies is taken
// out, and comes back.
func TestHAProxyInFrontOfTheMesh(t *testing.T) {
	t.Parallel()
	c := newCluster(t, "haproxy")
	balancer, err := c.AddNode("lb", 20) // a machine with an engine, and no part of the cluster
	if err != nil {
		t.Fatal(err)
	}
	archive, err := images.HAProxy(t.Context(), images.CacheDir())
	if err != nil {
		t.Fatal(err)
	}
	config := filepath.Join(c.Dir, "haproxy.cfg")
	if err := os.WriteFile(config, []byte(haproxyConfig), 0o600); err != nil {
		t.Fatal(err)
	}
	c.ok(balancer, "load", "-q", "-i", archive)
	c.ok(balancer, "run", "-d", "--name", "haproxy", "--network", "host", "-v", config+":/haproxy.cfg:ro", "haproxy")
	c.create(c.n1, "--name", "web", "--replicas", "2", "-p", "8080:80", "srv:1")
	states := func(want map[string]string) {
		t.Helper()
		c.eventually(20*time.Second, fmt.Sprint("HAProxy sees ", want), func() error {
			servers, err := c.haproxyServers(balancer.Addr)
			if err != nil {
				return err
			}
			have := map[string]string{}
			for name, s := range servers {
				have[name], _, _ = strings.Cut(s.status, " ")
			}
			if !maps.Equal(have, want) {
				return fmt.Errorf("it sees %v", have)
			}
			return nil
		})
	}
	request := func(times int) {
		t.Helper()
		for range times {
			if _, err := c.get("http://" + balancer.Addr + "/"); err != nil {
				t.Fatal(err)
			}
		}
	}
	allUp := map[string]string{"n1": "UP", "n2": "UP", "n3": "UP"}
	states(allUp)
	before, err := c.haproxyServers(balancer.Addr)
	if err != nil {
		t.Fatal(err)
	}
	request(300)
	after, err := c.haproxyServers(balancer.Addr)
	if err != nil {
		t.Fatal(err)
	}
	for name := range after {
		if got := after[name].sessions - before[name].sessions; got < 99 || got > 101 {
			t.Errorf("%s got %d of 300 requests", name, got)
		}
	}
	if err := c.n3.Cut(); err != nil {
		t.Fatal(err)
	}
	states(map[string]string{"n1": "UP", "n2": "UP", "n3": "DOWN"})
	request(100)
	if err := c.n3.Mend(); err != nil {
		t.Fatal(err)
	}
	states(allUp)
	request(100)
}
