package e2e

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

// A task that turns unready gets no request, is not restarted, and is used again once it is ready.
func TestReadinessIsNotLiveness(t *testing.T) {
	c := newCluster(t, "ready")
	c.ok(c.n1, "network", "create", "-d", "overlay", "net")
	c.create(c.n1, "--name", "web", "--network", "net", "--replicas", "3", "-p", "8080:80", "--mode", "replicated",
		"--label", "shoal.ready.cmd=test ! -e /tmp/sick", "--label", "shoal.ready.interval=100ms", "--label", "shoal.ready.failures=2", "srv:1")
	hosts := func() map[string]int {
		t.Helper()
		seen := map[string]int{}
		for range 10 {
			for _, url := range c.everyNode(8080) {
				text, err := c.get(url)
				if err != nil {
					t.Fatal(err)
				}
				seen[strings.TrimPrefix(strings.Fields(text)[0], "host=")]++
			}
		}
		return seen
	}
	container := c.rows(c.n2, "ps", "-q", "--filter", "name=web.")[0]
	used := func(want bool) func() error {
		return func() error {
			if seen := hosts(); (seen[container] > 0) != want {
				return fmt.Errorf("%v of %s", seen, container)
			}
			return nil
		}
	}
	c.eventually(10*time.Second, "all tasks get requests", used(true))
	before := c.ok(c.n1, "service", "ps", "-q", "web")

	c.ok(c.n2, "exec", container, "touch", "/tmp/sick")
	c.eventually(10*time.Second, "the unready task gets no request", used(false))
	load := c.startLoad(8080)
	load.more(100)
	if err := used(false)(); err != nil {
		t.Error(err)
	}
	load.finish()
	row := c.ok(c.n1, "service", "ps", "--no-trunc", "--filter", "node=n2", "--format", "{{.CurrentState}} {{.Error}}", "web")
	if !strings.HasPrefix(row, "Running") || !strings.Contains(row, "not ready: exit code 1") {
		t.Errorf("service ps of the unready task: %s", row)
	}

	c.ok(c.n2, "exec", container, "rm", "/tmp/sick")
	c.eventually(10*time.Second, "the task is ready again", used(true))
	if after := c.ok(c.n1, "service", "ps", "-q", "web"); after != before {
		t.Errorf("tasks were %s, are %s", before, after)
	}

	// From within the task's network, over HTTP: an update waits for tasks that are ready, and so does the command line.
	c.create(c.n1, "--name", "probed", "--network", "net", "--label", "shoal.ready.http=:80/", "srv:1")
	c.ok(c.n1, "service", "create", "-d", "--no-resolve-image", "--name", "deaf", "--network", "net", "--label", "shoal.ready.tcp=:81", "srv:1")
	c.eventually(10*time.Second, "the task that never gets ready does not run", func() error {
		row := c.ok(c.n1, "service", "ps", "--no-trunc", "--format", "{{.CurrentState}} {{.Error}}", "deaf")
		if !strings.HasPrefix(row, "Starting") || !strings.Contains(row, "connect: connection refused") {
			return fmt.Errorf("%s", row)
		}
		return nil
	})
	c.refused(c.n1, 1, "code = InvalidArgument desc = invalid label shoal.ready.tcp", "service", "create", "--label", "shoal.ready.tcp=81", "busybox")
}
