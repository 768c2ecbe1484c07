package e2e

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/shoal-dev/shoal/test/lab"
)

// Two hundred services of three tasks each on one network: every name leads where it should, on every node.
func TestTwoHundredServicesOnOneOverlay(t *testing.T) {
	const services, replicas = 200, 3
	c := newCluster(t, "crowd")
	c.ok(c.n1, "network", "create", "-d", "overlay", "--subnet", "10.60.0.0/20", "net")
	began := time.Now()
	var creating sync.WaitGroup
	for part := range 4 {
		creating.Go(func() {
			for i := part; i < services; i += 4 {
				c.ok(c.n1, "service", "create", "-d", "-q", "--no-resolve-image", "--name", fmt.Sprint("s", i), "--replicas", fmt.Sprint(replicas), "--network", "net",
					"--stop-signal", "KILL", "busybox", "sleep", "1d")
			}
		})
	}
	creating.Wait()
	c.ok(c.n1, "service", "create", "-d", "-q", "--no-resolve-image", "--name", "asker", "--mode", "global", "--network", "net", "srv:1")
	c.eventually(4*time.Minute, "all tasks run", func() error {
		wrong := 0
		for _, row := range c.rows(c.n1, "service", "ls", "--format", "{{.Replicas}}") {
			if row != "3/3" {
				wrong++
			}
		}
		if wrong > 0 {
			return fmt.Errorf("%d services are not complete", wrong)
		}
		return nil
	})
	t.Logf("%d tasks ran after %v", services*replicas, time.Since(began).Round(time.Second))

	want := c.namesOf(services)
	for _, n := range c.Nodes() {
		c.eventually(10*time.Second, "names are right on "+n.Name, func() error { return c.asksRight(n, want) })
	}
	// One that goes is gone everywhere.
	c.ok(c.n1, "service", "rm", "s7")
	delete(want, "s7")
	delete(want, "tasks.s7")
	for _, n := range c.Nodes() {
		asker := c.ok(n, "ps", "-q", "--filter", "label=com.docker.swarm.service.name=asker")
		c.eventually(5*time.Second, "s7 is unknown on "+n.Name, func() error {
			if r := c.docker(n, "exec", asker, "/srv", "lookup", "tasks.s7"); !strings.Contains(r.Text(), "no such host") {
				return fmt.Errorf("%s", r.Text())
			}
			return nil
		})
	}
}

// namesOf is what the managers say that the names of services s0, s1, … lead to.
func (c *cluster) namesOf(services int) map[string][]string {
	c.t.Helper()
	want := map[string][]string{}
	names := make([]string, services)
	for i := range names {
		names[i] = fmt.Sprint("s", i)
	}
	for _, row := range c.rows(c.n1, append([]string{"service", "inspect", "--format", "{{.Spec.Name}} {{range .Endpoint.VirtualIPs}}{{.Addr}}{{end}}"}, names...)...) {
		name, vip, _ := strings.Cut(row, " ")
		want[name] = []string{strings.TrimSuffix(vip, "/20")}
	}
	tasks := c.rows(c.n1, append([]string{"service", "ps", "-q", "--no-trunc", "--filter", "desired-state=running"}, names...)...)
	for part := range slices.Chunk(tasks, 100) {
		for _, row := range c.rows(c.n1, append([]string{"inspect", "--format", "{{json .}}"}, part...)...) {
			var task struct {
				ServiceID           string
				NetworksAttachments []struct{ Addresses []string }
			}
			if err := json.Unmarshal([]byte(row), &task); err != nil {
				c.t.Fatal(err)
			}
			want[task.ServiceID] = append(want[task.ServiceID], strings.TrimSuffix(task.NetworksAttachments[0].Addresses[0], "/20"))
		}
	}
	for _, row := range c.rows(c.n1, append([]string{"service", "inspect", "--format", "{{.ID}} {{.Spec.Name}}"}, names...)...) {
		id, name, _ := strings.Cut(row, " ")
		want["tasks."+name] = want[id]
		delete(want, id)
	}
	return want
}

// asksRight looks every name up in a container of the node, and pings some of the virtual addresses.
func (c *cluster) asksRight(n *lab.Node, want map[string][]string) error {
	asker := c.ok(n, "ps", "-q", "--filter", "label=com.docker.swarm.service.name=asker")
	r := c.docker(n, append([]string{"exec", asker, "/srv", "lookup"}, slices.Sorted(maps.Keys(want))...)...)
	if r.Code != 0 {
		return fmt.Errorf("%s", r.Text())
	}
	for line := range strings.Lines(r.Stdout) {
		name, list, _ := strings.Cut(strings.TrimSpace(line), " ")
		have := slices.Sorted(strings.FieldsSeq(strings.Trim(list, "[]")))
		if !slices.Equal(have, slices.Sorted(slices.Values(want[name]))) {
			return fmt.Errorf("%s is %v, want %v", name, have, want[name])
		}
	}
	for _, name := range []string{"s0", "s99", "s199"} {
		if r := c.docker(n, "exec", asker, "ping", "-c1", "-W5", want[name][0]); r.Code != 0 {
			return fmt.Errorf("%s: %s", name, r.Text())
		}
	}
	return nil
}
