package e2e

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// overall matches the line by which the command line tells how far a service is.
var overall = regexp.MustCompile(`overall progress: (\d+) out of (\d+) tasks`) //nolint:gochecknoglobals // a pattern

// steps is the numbers that a command's progress went through, each once.
func steps(t *testing.T, text, of string) []int {
	t.Helper()
	var seen []int
	for _, m := range overall.FindAllStringSubmatch(text, -1) {
		n, err := strconv.Atoi(m[1])
		if err != nil || m[2] != of {
			t.Errorf("%s in\n%s", m[0], text)
		}
		seen = append(seen, n)
	}
	return slices.Compact(seen)
}

// The stock command line shows each step of an update of ten tasks by two, of its rollback, and of a job; a failing image pauses
// or not as asked.
func TestProgressIsShown(t *testing.T) {
	t.Parallel()
	c := newCluster(t, "progress")
	c.ok(c.n1, "service", "create", "-q", "--name", "web", "--replicas", "10", "--update-parallelism", "2", "--update-delay", "300ms",
		"--update-monitor", "200ms", "--rollback-monitor", "200ms", "--rollback-parallelism", "0", "--restart-delay", "100ms",
		"--stop-grace-period", "100ms", "busybox", "sleep", "1d")
	pretty := c.ok(c.n1, "service", "inspect", "--pretty", "web")
	const block = "UpdateConfig:\n Parallelism:\t2\n Delay:\t\t300ms\n On failure:\tpause\n Monitoring Period: 200ms\n Max failure ratio: 0\n Update order:      stop-first\n"
	if !strings.Contains(pretty, block) {
		t.Errorf("inspect --pretty:\n%s", pretty)
	}

	begin := time.Now()
	out := c.ok(c.n1, "service", "update", "--args", "sleep 2d", "web")
	if took := time.Since(begin); took < 4*300*time.Millisecond {
		t.Errorf("five batches with a delay between them took %v", took)
	}
	seen := steps(t, out, "10")
	if len(seen) < 5 || seen[0] != 0 || seen[len(seen)-1] != 10 || !slices.IsSorted(seen) {
		t.Errorf("the update went through %v", seen)
	}
	for i := 1; i < len(seen); i++ {
		if seen[i] > seen[i-1]+2 {
			t.Errorf("more than two tasks at a time: %v", seen)
		}
	}
	if !strings.Contains(out, "Service web converged") {
		t.Errorf("update says:\n%s", out)
	}

	out = c.ok(c.n1, "service", "rollback", "web")
	if !strings.Contains(out, "rollback: manually requested rollback") || !strings.Contains(out, "rolling back update: ") ||
		!strings.Contains(out, "Service web converged") {
		t.Errorf("rollback says:\n%s", out)
	}

	// An image that is not there pauses the update, and does not when it is to go on.
	c.refused(c.n1, 1, `service update paused: update paused due to failure or early termination of task`, "service", "update", "--no-resolve-image", "--image", "nosuch:9", "web")
	c.ok(c.n1, "service", "update", "-d", "--no-resolve-image", "--update-failure-action", "continue", "web")
	c.eventually(time.Minute, "the update goes through", func() error {
		if r := c.docker(c.n1, "service", "inspect", "web", "--format", "{{.UpdateStatus.State}}"); !strings.HasPrefix(r.Stdout, "completed") {
			return fmt.Errorf("%s", r.Text())
		}
		return nil
	})
	out = c.ok(c.n1, "service", "update", "--no-resolve-image", "--image", "busybox", "web")
	if seen := steps(t, out, "10"); len(seen) == 0 || seen[len(seen)-1] != 10 {
		t.Errorf("the mending update went through %v:\n%s", seen, out)
	}

	out = c.ok(c.n1, "service", "create", "--name", "job", "--mode", "replicated-job", "--replicas", "4", "--max-concurrent", "2", "busybox", "true")
	for _, want := range []string{"active tasks: 0 out of 2 tasks", "4/4:", "job complete"} {
		if !strings.Contains(out, want) {
			t.Errorf("no %q in what a job says:\n%s", want, out)
		}
	}
}
