package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/shoal-dev/shoal/test/lab"
)

// networkState is what the node's namespace and its folder of namespaces hold, as far as shoal makes such things.
func (c *cluster) networkState(n *lab.Node) []string {
	c.t.Helper()
	var state []string
	for _, command := range [][]string{{"ip", "-o", "link"}, {"ip", "rule"}, {"ip", "-4", "route", "show", "table", "all"}, {"nft", "list", "ruleset"}} {
		out, err := n.Command(c.t.Context(), command[0], command[1:]...).Output()
		if err != nil {
			c.t.Fatalf("%s: %v", strings.Join(command, " "), err)
		}
		for line := range strings.Lines(string(out)) {
			line = strings.TrimSpace(strings.Replace(line, " linkdown", "", 1))
			if command[1] != "-o" {
				state = append(state, line)
			} else if fields := strings.Fields(line); !strings.HasPrefix(fields[1], "lo:") {
				state = append(state, "link "+strings.TrimSuffix(fields[1], ":"))
			}
		}
	}
	entries, err := os.ReadDir(filepath.Join(n.ExecRoot(), "netns"))
	if err != nil {
		c.t.Fatal(err)
	}
	for _, e := range entries {
		state = append(state, "namespace "+e.Name())
	}
	slices.Sort(state)
	return state
}

func TestLeavingLeavesNothingOfTheClusterBehind(t *testing.T) {
	t.Parallel()
	c := newLab(t, "leave")
	c.loadImages(c.n1, c.n2)
	c.ok(c.n1, "swarm", "init", "--advertise-addr", c.n1.Addr)
	c.ok(c.n1, "swarm", "leave", "--force") // the gateway bridge stays, as Docker's does
	before := c.networkState(c.n1)
	c.ok(c.n1, "swarm", "init", "--advertise-addr", c.n1.Addr)
	token := c.ok(c.n1, "swarm", "join-token", "-q", "worker")
	c.ok(c.n2, "swarm", "join", "--token", token, c.n1.Addr+":2377")
	c.ok(c.n1, "network", "create", "-d", "overlay", "--attachable", "net")
	c.create(c.n1, "--name", "web", "--network", "net", "-p", "8080:80", "--mode", "global", "nginx")
	for _, n := range []*lab.Node{c.n1, c.n2} {
		c.ok(n, "run", "-d", "--name", "plain", "--network", "net", "busybox", "sleep", "1d")
	}
	c.ok(c.n2, "swarm", "leave")
	c.ok(c.n1, "swarm", "leave", "--force")
	for _, n := range []*lab.Node{c.n1, c.n2} {
		c.docker(n, "rm", "-f", "plain") // it may have gone with the cluster
		c.eventually(10*time.Second, "nothing of the cluster is left on "+n.Name, func() error {
			var left []string
			for _, line := range c.networkState(n) {
				if !slices.Contains(before, line) {
					left = append(left, line)
				}
			}
			if len(left) > 0 && n == c.n1 || slices.ContainsFunc(left, func(s string) bool { return strings.HasPrefix(s, "link ing") || strings.HasPrefix(s, "namespace") }) {
				return fmt.Errorf("%s", strings.Join(left, "\n"))
			}
			return nil
		})
	}
}
