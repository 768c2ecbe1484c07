package e2e

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/shoal-dev/shoal/test/lab"
)

// create makes a service and waits until its tasks run. It does not wait, as the command by itself does, for five seconds in which
// nothing fails: commands that do are in TestProgressIsShown and TestCommandsEndAsDockersDo.
func (c *cluster) create(n *lab.Node, args ...string) {
	c.t.Helper()
	c.ok(n, append([]string{"service", "create", "-d", "-q", "--no-resolve-image"}, args...)...)
	c.settled(n, args[slices.Index(args, "--name")+1])
}

// scale gives a service so many replicas and waits until they run and no others do.
func (c *cluster) scale(n *lab.Node, service string, replicas int) {
	c.t.Helper()
	c.ok(n, "service", "scale", "-d", fmt.Sprintf("%s=%d", service, replicas))
	c.settled(n, service)
}

// settled waits until all tasks of a service that should run do, and none is on its way out.
func (c *cluster) settled(n *lab.Node, service string) {
	c.t.Helper()
	c.eventually(time.Minute, service+" has settled", func() error { return c.hasSettled(n, service) })
}

func (c *cluster) hasSettled(n *lab.Node, service string) error {
	tasks := c.docker(n, "service", "ps", service, "--format", "{{.Node}} {{.DesiredState}} {{.CurrentState}}")
	running := 0
	for row := range strings.Lines(tasks.Stdout) {
		f := strings.Fields(row)
		if (f[1] == "Running") != (f[2] == "Running") {
			return errors.New(row)
		}
		if f[1] == "Running" {
			running++
		}
	}
	replicas := c.docker(n, "service", "ls", "--filter", "name="+service, "--format", "{{.Replicas}}").Text()
	if tasks.Code != 0 || !strings.HasPrefix(replicas+" ", fmt.Sprintf("%d/%d ", running, running)) {
		return fmt.Errorf("%d tasks run of %s %s", running, replicas, tasks.Stderr)
	}
	return nil
}
