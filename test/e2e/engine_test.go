package e2e

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/moby/moby/client"
)

// Prune removed more than was asked for: `image prune --filter label=…` all unused images, `network prune --filter until=…` all unused networks.
func TestPruneTakesWhatItsFiltersName(t *testing.T) {
	t.Parallel()
	c := newCluster(t, "prune")
	for _, name := range []string{"kept", "gone"} {
		c.ok(c.n1, "run", "--name", name, "busybox", "true")
		c.ok(c.n1, "commit", "--change", "LABEL which="+name, name, name)
		c.ok(c.n1, "rm", name)
		c.ok(c.n1, "network", "create", "--label", "which="+name, name)
	}
	c.ok(c.n1, "image", "prune", "-af", "--filter", "label=which=gone")
	if got := c.ok(c.n1, "image", "ls", "--format", "{{.Repository}}"); strings.Contains(got, "gone") || !strings.Contains(got, "kept") || !strings.Contains(got, "busybox") {
		t.Errorf("images after prune: %q", got)
	}
	networks := func() string {
		return strings.Join(c.rows(c.n1, "network", "ls", "--filter", "label=which", "--format", "{{.Name}}"), " ")
	}
	c.ok(c.n1, "network", "prune", "-f", "--filter", "until=1h")
	c.refused(c.n1, 1, `Error response from daemon: invalid time "soon"`, "network", "prune", "-f", "--filter", "until=soon")
	if got := networks(); got != "gone kept" {
		t.Errorf("networks after prune of old ones: %s", got)
	}
	c.ok(c.n1, "network", "prune", "-f", "--filter", "label!=which=kept")
	if got := networks(); got != "kept" {
		t.Errorf("networks after prune by label: %s", got)
	}
	c.linksOnTheDefaultBridge()
	c.copiesAndRemovalsOfWhatIsUsed()
	c.optionsOfNetworks()
	c.servicesOfTheNodesNetworks()
	c.anAdvertisedPort()
}

// linksOnTheDefaultBridge: they gave no environment, and took targets that are not there.
func (c *cluster) linksOnTheDefaultBridge() {
	c.t.Helper()
	c.ok(c.n1, "run", "-d", "--name", "db", "--expose", "5432", "busybox", "sleep", "1000")
	c.ok(c.n1, "run", "-d", "--name", "web", "--link", "db:store", "busybox", "sleep", "1000")
	addr := c.ok(c.n1, "inspect", "db", "--format", "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}")
	if got := c.ok(c.n1, "exec", "web", "sh", "-c", "echo $STORE_PORT $STORE_NAME; grep store /etc/hosts"); !strings.HasPrefix(got, "tcp://"+addr+":5432 /web/store\n"+addr) {
		c.t.Errorf("what a link tells: %q", got)
	}
	c.ok(c.n1, "exec", "web", "ping", "-c", "1", "-W", "5", "store")
	c.refused(c.n1, 1, "Error response from daemon: could not get container for nosuch: No such container: nosuch", "create", "--link", "nosuch:x", "busybox")
	c.ok(c.n1, "rm", "-f", "web", "db")
}

// copiesAndRemovalsOfWhatIsUsed: copies went under the volumes of a container that did not run, and a forced removal took the image of one that did.
func (c *cluster) copiesAndRemovalsOfWhatIsUsed() {
	c.t.Helper()
	c.ok(c.n1, "create", "--name", "idle", "-v", "data:/data", "busybox", "cat", "/data/hostname")
	c.ok(c.n1, "run", "-d", "--name", "up", "-v", "data:/data:ro", "kept", "sleep", "1000")
	c.ok(c.n1, "cp", "/etc/hostname", "idle:/data/")
	if idle, up := c.ok(c.n1, "start", "-a", "idle"), c.ok(c.n1, "exec", "up", "cat", "/data/hostname"); idle == "" || idle != up {
		c.t.Errorf("what was copied into a volume: %q, %q", idle, up)
	}
	c.ok(c.n1, "cp", "/etc/hostname", "up:/")
	c.ok(c.n1, "rmi", "-f", "kept")
	if got := c.ok(c.n1, "image", "ls", "--filter", "dangling=true", "--format", "{{.Repository}}"); got != "<none>" {
		c.t.Errorf("images without a name: %q", got)
	}
	c.ok(c.n1, "restart", "-t", "0", "up")
	c.ok(c.n1, "rm", "-f", "up", "idle")
}

// Ctrl-C of `docker stop`, before the container had ended, left it running.
func TestAStopGoesOnWithoutTheClient(t *testing.T) {
	t.Parallel()
	c := newCluster(t, "stop")
	c.ok(c.n1, "run", "-d", "--name", "stubborn", "busybox", "sh", "-c", "trap '' TERM; while :; do sleep 1; done")
	timeout := 3
	ctx, cancel := context.WithCancel(t.Context())
	stopped := make(chan error, 1)
	go func() {
		_, err := c.api(c.n1).ContainerStop(ctx, "stubborn", client.ContainerStopOptions{Timeout: &timeout})
		stopped <- err
	}()
	c.eventually(10*time.Second, "the stop has begun", func() error {
		if got := c.ok(c.n1, "events", "--since", "1m", "--until", "0s", "--filter", "event=kill", "--format", "{{.Actor.Attributes.signal}}"); got != "15" {
			return errors.New(got)
		}
		return nil
	})
	cancel()
	if err := <-stopped; err == nil {
		t.Fatal("the client has not gone")
	}
	c.eventually(15*time.Second, "it stops", func() error {
		if got := c.ok(c.n1, "inspect", "stubborn", "--format", "{{.State.Status}} {{.State.ExitCode}}"); got != "exited 137" {
			return errors.New(got)
		}
		return nil
	})
}
