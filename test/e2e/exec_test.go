package e2e

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/shoal-dev/shoal/test/lab"
)

// shoal runs the binary as a command line that speaks to a node.
func (c *cluster) shoal(n *lab.Node, stdin string, args ...string) lab.Result {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(c.t.Context(), commandLimit)
	defer cancel()
	cmd := exec.CommandContext(ctx, binary(c.t), append([]string{"-H", "unix://" + n.Socket()}, args...)...)
	cmd.Env = append(os.Environ(), "DOCKER_CONFIG="+filepath.Join(c.Dir, "config"))
	cmd.Stdin = strings.NewReader(stdin)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	_ = cmd.Run() // its exit code says it
	return lab.Result{Stdout: out.String(), Stderr: errs.String(), Code: cmd.ProcessState.ExitCode()}
}

// Commands run in tasks wherever they are, asked of whichever manager.
func TestExecReachesTasksOnOtherNodes(t *testing.T) {
	t.Parallel()
	c := newCluster(t, "exec")
	c.ok(c.n1, "node", "promote", "n2")
	c.eventually(30*time.Second, "n2 is a manager", func() error {
		if r := c.docker(c.n2, "node", "ls"); r.Code != 0 {
			return fmt.Errorf("%s", r.Text())
		}
		return nil
	})
	c.create(c.n1, "--name", "web", "--replicas", "2", "--constraint", "node.hostname==n3",
		"--hostname", "{{.Node.Hostname}}-{{.Task.Slot}}", "srv:1")
	container := c.ok(c.n3, "ps", "-q", "--no-trunc", "--filter", "name=web.2")
	name := c.ok(c.n3, "inspect", container, "--format", "{{slice .Name 1}}")
	c.eventually(10*time.Second, "n2 shows its new certificate", func() error {
		if r := c.docker(c.n2, "exec", name, "true"); r.Code != 0 {
			return fmt.Errorf("%s", r.Text())
		}
		return nil
	})
	for _, manager := range []*lab.Node{c.n1, c.n2} {
		for _, ref := range []string{container, container[:12], name} {
			if got := c.ok(manager, "exec", ref, "hostname"); got != "n3-2" {
				t.Errorf("%s: exec %s hostname: %q", manager.Name, ref, got)
			}
		}
		if r := c.docker(manager, "exec", name, "sh", "-c", "echo out; echo err >&2; exit 7"); r.Code != 7 || r.Stdout != "out\n" || r.Stderr != "err\n" {
			t.Errorf("%s: %+v", manager.Name, r)
		}
		if r := c.docker(manager, "exec", "-t", name, "tty"); r.Code != 0 || !strings.HasPrefix(r.Stdout, "/dev/pts/") {
			t.Errorf("%s: with a terminal: %+v", manager.Name, r)
		}
		if r := c.shoal(manager, "some text", "service", "exec", "-i", "web.1", "sh", "-c", "hostname; cat; exit 3"); r.Code != 3 || r.Stdout != "n3-1\nsome text" {
			t.Errorf("%s: service exec: %+v", manager.Name, r)
		}
		if r := c.shoal(manager, "", "service", "exec", "web", "hostname"); r.Code != 0 || !strings.HasPrefix(r.Stdout, "n3-") {
			t.Errorf("%s: service exec: %+v", manager.Name, r)
		}
		if got := c.ok(manager, "inspect", name, "--format", "{{.Config.Hostname}}"); got != "n3-2" {
			t.Errorf("%s: inspect: %q", manager.Name, got)
		}
		if r := c.shoal(manager, "", "service", "exec", "web.9", "true"); r.Code != 1 || !strings.Contains(r.Stderr, "no running task of web.9") {
			t.Errorf("%s: %+v", manager.Name, r)
		}
		c.refused(manager, 1, "No such container: nosuch", "exec", "nosuch", "true")
	}
	// A worker knows of its own only.
	c.ok(c.n1, "node", "demote", "n2")
	c.eventually(30*time.Second, "n2 is a worker", func() error {
		if r := c.docker(c.n2, "exec", name, "true"); r.Code != 1 || !strings.Contains(r.Stderr, "No such container: "+name) {
			return fmt.Errorf("%+v", r)
		}
		return nil
	})
}
