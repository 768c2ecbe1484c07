package e2e

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/shoal-dev/shoal/test/lab"
	"github.com/shoal-dev/shoal/test/load"
)

// The disks of two of three managers are gone. Tasks and traffic go on; the flag brings control back, and everything that the cluster had.
func TestForceNewCluster(t *testing.T) {
	t.Parallel()
	c := newManagers(t, "force")
	worker, err := c.AddNode("n4", 14)
	if err != nil {
		t.Fatal(err)
	}
	c.loadImages(worker)
	c.ok(worker, "swarm", "join", "--token", c.ok(c.n1, "swarm", "join-token", "-q", "worker"), c.n1.Addr+":2377")
	c.ok(c.n1, "network", "create", "-d", "overlay", "back")
	c.create(c.n1, "--name", "web", "-p", "8080:80", "--network", "back", "--replicas", "4", "nginx")
	containers := func(n *lab.Node) []string { return c.rows(n, "ps", "-q", "--no-trunc") }
	before := map[*lab.Node][]string{c.n1: containers(c.n1), worker: containers(worker)}
	facts := func() string {
		return c.ok(c.n1, "service", "inspect", "web", "--format", "{{json .Endpoint}}") +
			c.ok(c.n1, "network", "inspect", "back", "--format", "{{.ID}}{{json .IPAM.Config}}") +
			c.ok(c.n1, "swarm", "ca") + c.ok(c.n1, "swarm", "join-token", "-q", "manager")
	}
	was := facts()
	for _, n := range []*lab.Node{c.n2, c.n3} {
		if err := errors.Join(n.Kill(), n.KillShims(), os.RemoveAll(filepath.Join(n.DataRoot(), "swarm"))); err != nil {
			t.Fatal(err)
		}
	}
	c.eventually(30*time.Second, "control is lost", func() error {
		if r := c.docker(c.n1, "service", "update", "-d", "--label-add", "a=b", "web"); !strings.Contains(r.Text(), "The swarm does not have a leader") {
			return errors.New(r.Text())
		}
		return nil
	})
	answers := func() error {
		for _, n := range []*lab.Node{c.n1, worker} {
			if _, err := c.get("http://" + n.Addr + ":8080/"); err != nil {
				return fmt.Errorf("%s: %w", n.Name, err)
			}
		}
		return nil
	}
	c.eventually(20*time.Second, "the port answers without control", answers)
	l := c.startTraffic(load.Config{URLs: []string{"http://" + c.n1.Addr + ":8080/", "http://" + worker.Addr + ":8080/"}})
	if got := c.ok(c.n1, "swarm", "init", "--force-new-cluster", "--advertise-addr", c.n1.Addr); !strings.Contains(got, "is now a manager.") {
		t.Errorf("init printed %q", got)
	}
	c.eventually(20*time.Second, "the worker is ready, the lost managers are not", func() error {
		rows := strings.Split(c.ok(c.n1, "node", "ls", "--format", "{{.Hostname}} {{.Status}} {{.ManagerStatus}}"), "\n")
		for i := range rows {
			rows[i] = strings.TrimSpace(rows[i])
		}
		if slices.Sort(rows); !slices.Equal(rows, []string{"n1 Ready Leader", "n2 Down", "n3 Down", "n4 Ready"}) {
			return fmt.Errorf("%q", rows)
		}
		return nil
	})
	c.eventually(30*time.Second, "four tasks", func() error { return c.running("web", 4) })
	l.finish()
	if now := facts(); now != was {
		t.Errorf("the cluster was\n%s\nand is\n%s", was, now)
	}
	for n, ids := range before {
		now := containers(n)
		for _, id := range ids {
			if !slices.Contains(now, id) {
				t.Errorf("container %s on %s has not lived through it", id, n.Name)
			}
		}
	}
	c.ok(c.n1, "service", "scale", "-d", "web=5")
	if err := c.n2.Start(); err != nil { // with an empty disk
		t.Fatal(err)
	}
	c.ok(c.n2, "swarm", "join", "--token", c.ok(c.n1, "swarm", "join-token", "-q", "manager"), c.n1.Addr+":2377")
	c.eventually(30*time.Second, "five tasks", func() error { return c.running("web", 5) })
	if err := answers(); err != nil {
		t.Error(err)
	}
}
