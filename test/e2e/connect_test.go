package e2e

import (
	"strings"
	"testing"
)

func TestContainersAreConnectedAndLinked(t *testing.T) {
	t.Parallel()
	c := newLab(t, "connect")
	c.loadImages(c.n1)
	n := c.n1
	c.ok(n, "network", "create", "other")
	c.ok(n, "run", "-d", "--name", "server", "nginx")
	body := c.ok(n, "run", "--rm", "--link", "server:web", "busybox", "wget", "-qO-", "http://web/")
	if !strings.Contains(body, "nginx") {
		t.Errorf("a linked container answers %.80q", body)
	}
	networks := func(container string) string {
		return c.ok(n, "inspect", container, "--format", "{{range $name, $_ := .NetworkSettings.Networks}}{{$name}} {{end}}")
	}
	// A container that does not run yet.
	c.ok(n, "create", "--name", "later", "busybox", "sleep", "1d")
	c.ok(n, "network", "connect", "--alias", "al", "other", "later")
	c.ok(n, "network", "connect", "--alias", "second", "other", "later") // as in Docker, this changes nothing
	if got := networks("later"); got != "bridge other" {
		t.Errorf("connected before its start it is on %q", got)
	}
	c.ok(n, "start", "later")
	if got := c.ok(n, "exec", "later", "ip", "-o", "-4", "addr"); strings.Count(got, "inet 172.") != 2 {
		t.Errorf("it has these addresses:\n%s", got)
	}
	c.ok(n, "run", "--rm", "--network", "other", "busybox", "ping", "-c1", "al")
	c.refused(n, 1, "bad address", "run", "--rm", "--network", "other", "busybox", "ping", "-c1", "second")
	c.refused(n, 1, "endpoint with name later already exists in network other", "network", "connect", "other", "later")
	// One that runs keeps what was done to it when it is started again.
	c.ok(n, "network", "disconnect", "bridge", "later")
	c.ok(n, "restart", "-t", "0", "later")
	if got := networks("later"); got != "other" {
		t.Errorf("after a restart it is on %q", got)
	}
	c.ok(n, "network", "connect", "bridge", "later")
	if got := networks("later"); got != "bridge other" {
		t.Errorf("connected while it runs it is on %q", got)
	}
	c.ok(n, "stop", "-t", "0", "later")
	c.ok(n, "network", "disconnect", "other", "later")
	c.refused(n, 1, "is not connected to network other", "network", "disconnect", "other", "later")
	c.ok(n, "start", "later")
	if got := networks("later"); got != "bridge" {
		t.Errorf("disconnected while it did not run it is on %q", got)
	}
	c.ok(n, "rm", "-f", "later", "server")
	c.ok(n, "network", "rm", "other")
}
