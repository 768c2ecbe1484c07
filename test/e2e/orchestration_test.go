package e2e

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// spread is how many running tasks of a service each node has, "n1:2 n3:1".
func (c *cluster) spread(service string) string {
	count := map[string]int{}
	for _, row := range c.rows(c.n1, "service", "ps", service, "--filter", "desired-state=running", "--format", "{{.Node}} {{.CurrentState}}") {
		if node, state, _ := strings.Cut(row, " "); strings.HasPrefix(state, "Running") {
			count[node]++
		}
	}
	var all []string
	for node, n := range count {
		all = append(all, fmt.Sprint(node, ":", n))
	}
	slices.Sort(all)
	return strings.Join(all, " ")
}

func (c *cluster) spreads(service, want string) {
	c.t.Helper()
	c.eventually(30*time.Second, service+" is spread as "+want, func() error {
		if got := c.spread(service); got != want {
			return fmt.Errorf("%s", got)
		}
		return nil
	})
}

func TestFailedUpdates(t *testing.T) {
	t.Parallel()
	c := newCluster(t, "failures")
	c.create(c.n1, "--name", "web", "--replicas", "3", "--update-monitor", "1s", "--rollback-monitor", "1s",
		"--restart-delay", "100ms", "--stop-grace-period", "100ms", "busybox", "sleep", "1d")
	c.refused(c.n1, 1, `service update paused: update paused due to failure or early termination of task [a-z0-9]{25}`,
		"service", "update", "--no-resolve-image", "--image", "nosuch:9", "web")
	if got := c.ok(c.n1, "service", "inspect", "web", "--format", "{{.UpdateStatus.State}}"); !strings.HasPrefix(got, "paused") {
		t.Errorf("update is %s", got)
	}
	c.ok(c.n1, "service", "rollback", "-q", "web")
	c.eventually(10*time.Second, "the rollback completes", func() error {
		if got := c.ok(c.n1, "service", "inspect", "web", "--format", "{{.UpdateStatus.Message}}"); strings.TrimSpace(got) != "rollback completed" {
			return fmt.Errorf("%s", got)
		}
		return c.running("web", 3)
	})
	out := c.ok(c.n1, "service", "update", "--update-failure-action", "rollback", "--args", "false", "web")
	if !strings.Contains(out, "rollback: update rolled back due to failure or early termination of task") || !strings.Contains(out, "Service web converged") {
		t.Errorf("update says:\n%s", out)
	}
	c.eventually(10*time.Second, "the service is rolled back", func() error {
		if got := c.ok(c.n1, "service", "inspect", "web", "--format", "{{with .UpdateStatus}}{{.State}}{{end}}"); strings.TrimSpace(got) != "rollback_completed" {
			return fmt.Errorf("%s", got)
		}
		return nil
	})
	if err := c.running("web", 3); err != nil {
		t.Error(err)
	}
}

func TestCrashLoopsBackOff(t *testing.T) {
	c := newCluster(t, "crash")
	c.ok(c.n1, "service", "create", "-d", "--name", "crash", "--restart-delay", "0s", "busybox", "false")
	// Without back-off a successor would never wait.
	c.eventually(20*time.Second, "a pause of more than a second between crashes", func() error {
		rows := c.rows(c.n1, "service", "ps", "crash", "--format", "{{.DesiredState}} {{.CurrentState}}")
		for _, row := range rows {
			if strings.HasPrefix(row, "Ready Ready") && !strings.Contains(row, "less than a second") {
				return nil
			}
		}
		return fmt.Errorf("%s", strings.Join(rows, "\n"))
	})
}

// TestReplacementIsPrompt has a task end by itself, and looks how long after the restart delay the next one runs. That takes some
// a tenth of a second or two; the bound leaves room for a busy machine.
func TestReplacementIsPrompt(t *testing.T) {
	c := newCluster(t, "prompt")
	c.ok(c.n1, "service", "create", "-d", "--name", "clock", "--restart-delay", "500ms", "--constraint", "node.hostname==n1", "busybox", "sleep", "1")
	var ended, began time.Time
	c.eventually(20*time.Second, "a task has taken over from a completed one", func() error {
		ids := c.rows(c.n1, "service", "ps", "clock", "-q")
		if len(ids) < 2 {
			return fmt.Errorf("%d tasks", len(ids))
		}
		var now, before struct {
			Status struct {
				State     string
				Timestamp time.Time
			}
		}
		c.inspect(c.n1, &now, "inspect", "--type", "task", ids[0])
		c.inspect(c.n1, &before, "inspect", "--type", "task", ids[1])
		if now.Status.State != "running" || before.Status.State != "complete" {
			return fmt.Errorf("%+v after %+v", now, before)
		}
		began, ended = now.Status.Timestamp, before.Status.Timestamp
		return nil
	})
	beyond := began.Sub(ended) - 500*time.Millisecond
	t.Logf("the replacement ran %s after the delay", beyond)
	if beyond < 0 || beyond > time.Second {
		t.Errorf("the replacement ran %s after the delay", beyond)
	}
}

func TestJobs(t *testing.T) {
	t.Parallel()
	c := newCluster(t, "jobs")
	c.ok(c.n1, "service", "create", "-q", "--name", "job", "--mode", "replicated-job", "--replicas", "4", "--max-concurrent", "2", "busybox", "true")
	completed := func(service, want string) {
		t.Helper()
		c.eventually(20*time.Second, service+" completes", func() error {
			if got := strings.TrimSpace(c.ok(c.n1, "service", "ls", "--filter", "name="+service, "--format", "{{.Replicas}}")); got != want {
				return fmt.Errorf("%s", got)
			}
			return nil
		})
	}
	completed("job", "0/2 (4/4 completed)")
	before := c.ok(c.n1, "service", "ps", "-q", "job")
	c.ok(c.n1, "service", "update", "-q", "--force", "job")
	completed("job", "0/2 (4/4 completed)")
	for id := range strings.FieldsSeq(before) {
		if strings.Contains(c.ok(c.n1, "service", "ps", "-q", "job"), id) {
			t.Errorf("task %s is not of the new run", id)
		}
	}
	c.ok(c.n1, "service", "create", "-q", "--name", "each", "--mode", "global-job", "busybox", "true")
	completed("each", "0/0 (3/3 completed)")
}

func TestRebalanceDrainAndStartOrder(t *testing.T) {
	c := newCluster(t, "even")
	c.ok(c.n1, "node", "update", "--availability", "drain", "n3")
	c.create(c.n1, "--name", "web", "--replicas", "6", "--label", "shoal.rebalance=true", "--label", "shoal.rebalance.budget=2",
		"--label", "shoal.rebalance.cooldown=0s", "--label", "shoal.drain.min-available=6", "--stop-grace-period", "100ms", "busybox", "sleep", "1d")
	c.spreads("web", "n1:3 n2:3")
	c.ok(c.n1, "node", "update", "--availability", "active", "n3")
	c.spreads("web", "n1:2 n2:2 n3:2")

	least := make(chan int, 1)
	done := make(chan struct{})
	go func() { // how few replicas `service ls` ever shows during the drain
		lowest := 6
		for {
			row := c.docker(c.n1, "service", "ls", "--filter", "name=web", "--format", "{{.Replicas}}").Stdout
			if n, err := strconv.Atoi(strings.Split(strings.TrimSpace(row), "/")[0]); err == nil {
				lowest = min(lowest, n)
			}
			select {
			case <-done:
				least <- lowest
				return
			default:
			}
		}
	}()
	c.ok(c.n1, "node", "update", "--availability", "drain", "n2")
	c.spreads("web", "n1:3 n3:3")
	close(done)
	if n := <-least; n < 6 {
		t.Errorf("%d of 6 tasks ran during the drain", n)
	}

	c.ok(c.n1, "service", "create", "-d", "--name", "front", "--label", "shoal.depends-on=back,nowhere", "busybox", "sleep", "1d")
	c.eventually(10*time.Second, "a name that does not exist costs nothing", func() error { return c.running("front", 1) })
	c.ok(c.n1, "service", "rm", "front")
	c.ok(c.n1, "service", "create", "-d", "--name", "back", "--constraint", "node.labels.disk==ssd", "busybox", "sleep", "1d")
	c.ok(c.n1, "service", "create", "-d", "--name", "front", "--label", "shoal.depends-on=back,nowhere", "busybox", "sleep", "1d")
	c.eventually(10*time.Second, "front waits, prepared", func() error {
		row := c.ok(c.n1, "service", "ps", "front", "--format", "{{.DesiredState}} {{.CurrentState}}")
		if !strings.HasPrefix(row, "Ready Ready") {
			return fmt.Errorf("%s", row)
		}
		return nil
	})
	c.ok(c.n1, "node", "update", "--label-add", "disk=ssd", "n1")
	c.eventually(10*time.Second, "front runs once back does", func() error { return c.running("front", 1) })
}
