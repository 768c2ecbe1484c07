package e2e

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/shoal-dev/shoal/test/lab"
)

// unlock gives a node a key on the standard input, as the docker command line wants it, and tells what it says.
func (c *cluster) unlock(n *lab.Node, key string) (string, error) {
	cmd := exec.CommandContext(c.t.Context(), "docker", "-H", "unix://"+n.Socket(), "swarm", "unlock")
	cmd.Stdin = strings.NewReader(key + "\n")
	out, err := cmd.CombinedOutput()
	return strings.TrimSpace(string(out)), err
}

// isLocked waits until the files of a manager are under lock, or open.
func (c *cluster) isLocked(n *lab.Node, locked bool) {
	c.t.Helper()
	for _, file := range []string{"swarm/certificates/swarm-node.key", "swarm/store/key"} {
		c.eventually(5*time.Second, n.Name+"'s files are as they should be", func() error {
			text, err := os.ReadFile(filepath.Join(n.DataRoot(), file))
			if err != nil {
				return err
			}
			if strings.Contains(string(text), "LOCKED") != locked {
				return errors.New(file)
			}
			return nil
		})
	}
}

func (c *cluster) restart(n *lab.Node) {
	c.t.Helper()
	if err := n.Stop(); err != nil {
		c.t.Fatal(err)
	}
	if err := n.Start(); err != nil {
		c.t.Fatal(err)
	}
}

func TestAutolock(t *testing.T) {
	t.Parallel()
	c := newManagers(t, "lock")
	c.create(c.n1, "--name", "web", "--replicas", "3", "busybox", "sleep", "1d")
	c.refused(c.n1, 1, "no unlock key is set", "swarm", "unlock-key")
	c.refused(c.n1, 1, "swarm is not locked", "swarm", "unlock")
	printed := c.ok(c.n1, "swarm", "update", "--autolock=true")
	key := regexp.MustCompile(`SWMKEY-1-\S{43}`).FindString(printed)
	if key == "" || c.ok(c.n2, "swarm", "unlock-key", "-q") != key {
		t.Fatalf("swarm update printed:\n%s", printed)
	}
	for _, n := range c.Nodes() {
		c.isLocked(n, true)
	}

	before := c.rows(c.n2, "ps", "-q")
	c.restart(c.n2)
	if got := c.ok(c.n2, "info", "-f", "{{.Swarm.LocalNodeState}}"); got != "locked" {
		t.Errorf("after a restart the node is %s", got)
	}
	c.refused(c.n2, 1, `Swarm is encrypted and needs to be unlocked before it can be used. Please use "docker swarm unlock" to unlock it.`, "node", "ls")
	c.refused(c.n2, 1, "Swarm is encrypted and locked. Please unlock it first or use `--force` to ignore this message.", "swarm", "leave")
	if got, err := c.unlock(c.n2, "SWMKEY-1-"+strings.Repeat("A", 43)); err == nil || !strings.Contains(got, "invalid key provided") {
		t.Errorf("a wrong key: %s, %v", got, err)
	}
	if after := c.rows(c.n2, "ps", "-q"); !slices.Equal(before, after) {
		t.Errorf("containers of the locked node: %q, before %q", after, before)
	}
	if got, err := c.unlock(c.n2, key); err != nil || got != "" {
		t.Fatalf("unlock: %s, %v", got, err)
	}
	c.eventually(10*time.Second, "n2 serves again", func() error {
		if r := c.docker(c.n2, "node", "ls"); r.Code != 0 {
			return errors.New(r.Text())
		}
		return c.nodeIs("n2", "Ready")
	})

	c.ok(c.n2, "swarm", "unlock-key", "--rotate")
	rotated := c.ok(c.n1, "swarm", "unlock-key", "-q")
	if rotated == key {
		t.Error("the key was not rotated")
	}
	c.eventually(5*time.Second, "n3 is locked with the new key", func() error {
		c.restart(c.n3)
		if got, err := c.unlock(c.n3, rotated); err != nil {
			return errors.New(got)
		}
		return nil
	})
	c.ok(c.n1, "node", "demote", "n3")
	c.eventually(10*time.Second, "a worker's key is open", func() error {
		text, err := os.ReadFile(filepath.Join(c.n3.DataRoot(), "swarm/certificates/swarm-node.key"))
		if err == nil && strings.Contains(string(text), "LOCKED") {
			return errors.New("it is not")
		}
		return err
	})
	c.ok(c.n1, "swarm", "update", "--autolock=false")
	c.isLocked(c.n1, false)
	c.isLocked(c.n2, false)
	c.restart(c.n1)
	c.leader(c.n1)
	if got := c.ok(c.n1, "info", "-f", "{{.Swarm.LocalNodeState}}"); got != "active" {
		t.Errorf("without autolock the node is %s", got)
	}
}
