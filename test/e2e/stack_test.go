package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// stackOf is a compose file of so many services on two networks of its own, with a secret and a config.
func stackOf(services int, args string) string {
	var s strings.Builder
	s.WriteString("services:\n")
	for i := range services {
		fmt.Fprintf(&s, `  s%d:
    image: busybox
    command: [sleep, %q]
    init: true
    networks: [%s]
    stop_grace_period: 5s
    deploy: {update_config: {monitor: 10ms, parallelism: 0}}
    secrets: [key]
    configs: [{source: conf, target: /conf}]
`, i, args, []string{"front", "back", "front, back"}[i%3])
		if i == 0 {
			s.WriteString("    ports: ['8080:80']\n")
		}
	}
	s.WriteString("networks: {front: {}, back: {driver_opts: {}}}\n")
	s.WriteString("secrets: {key: {file: ./key}}\nconfigs: {conf: {file: ./key}}\n")
	return s.String()
}

// A stack of thirty services is deployed, pruned and removed, twenty times in a row without a pause, and leaves nothing.
func TestStacksComeAndGo(t *testing.T) {
	t.Parallel()
	const services, kept, rounds = 30, 20, 20
	c := newCluster(t, "stack")
	dir := t.TempDir()
	file := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	file("key", "the key")
	whole, less := file("whole.yaml", stackOf(services, "1d")), file("less.yaml", stackOf(kept, "2d"))
	before := c.traces()
	begin := time.Now()
	for round := range rounds {
		// The command line waits for one service after the other, looking five times a second: once is enough.
		c.ok(c.n1, "stack", "deploy", "--resolve-image", "never", "-c", whole, fmt.Sprintf("--detach=%v", round > 0), "st")
		if round%3 == 2 { // else the next steps meet tasks that are still starting
			c.eventually(time.Minute, "all services run", func() error {
				if n := strings.Count(c.ok(c.n1, "stack", "services", "--format", "{{.Replicas}}", "st"), "1/1"); n != services {
					return fmt.Errorf("round %d: %d services", round, n)
				}
				return nil
			})
		}
		c.ok(c.n1, "stack", "deploy", "--resolve-image", "never", "-c", less, "--prune", "--detach=true", "st")
		if n := len(c.rows(c.n1, "stack", "services", "-q", "st")); n != kept {
			t.Fatalf("round %d: %d services after --prune", round, n)
		}
		c.ok(c.n1, "stack", "rm", "st")
		t.Logf("round %d after %v", round, time.Since(begin).Round(time.Second/10))
		for _, args := range []string{"service ls -q", "secret ls -q", "config ls -q", "network ls -q --filter label=com.docker.stack.namespace=st"} {
			if left := c.ok(c.n1, strings.Fields(args)...); left != "" {
				t.Errorf("round %d: %s: %s", round, args, left)
			}
		}
	}
	t.Logf("%d rounds took %v", rounds, time.Since(begin).Round(time.Second))
	c.eventually(2*time.Minute, "nothing is left of it on any node", func() error {
		if now := c.traces(); now != before {
			return fmt.Errorf("%s\nbefore:\n%s", now, before)
		}
		return nil
	})
}

// traces is what nodes hold of containers, networks and namespaces, and the cluster of tasks.
func (c *cluster) traces() string {
	c.t.Helper()
	var all strings.Builder
	for _, n := range c.Nodes() {
		namespaces, err := os.ReadDir(filepath.Join(n.ExecRoot(), "netns"))
		if err != nil {
			c.t.Fatal(err)
		}
		fmt.Fprintf(&all, "%s: containers [%s] namespaces %v networks [%s] volumes [%s]\n", n.Name, c.ok(n, "ps", "-aq"), namespaces,
			c.ok(n, "network", "ls", "--format", "{{.Name}}"), c.ok(n, "volume", "ls", "-q"))
	}
	return all.String()
}
