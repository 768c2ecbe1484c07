// Package e2e drives real nodes with the stock docker command line, as users do.
package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/shoal-dev/shoal/test/images"
	"github.com/shoal-dev/shoal/test/lab"
)

// binary is what `make build` makes.
func binary(t *testing.T) string {
	t.Helper()
	path, err := filepath.Abs("../../bin/shoal")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(path); err != nil {
		t.Fatalf("%v: run `make build` first", err)
	}
	return path
}

// cluster is a lab of three nodes and a client, and what tests do with it.
type cluster struct {
	*lab.Lab
	t          *testing.T
	n1, n2, n3 *lab.Node
	client     *lab.Host   // of load
	fresh      []*lab.Host // clients that were needed only once
	failures   failures
}

// emptyLab makes a lab without nodes. It is taken down at the test's end, and its daemons' logs are shown if that has failed.
func emptyLab(t *testing.T, name string) *cluster {
	t.Helper()
	l, err := lab.New(fmt.Sprintf("%s%d", name, os.Getpid()), "", binary(t))
	if err != nil {
		t.Fatal(err)
	}
	c := &cluster{Lab: l, t: t}
	t.Cleanup(func() {
		if t.Failed() {
			c.dump()
		}
		if err := l.Close(); err != nil {
			t.Errorf("tear down: %v", err)
		}
	})
	return c
}

// newLab makes three nodes that know nothing of one another, with the test images loaded.
func newLab(t *testing.T, name string) *cluster {
	t.Helper()
	c := emptyLab(t, name)
	for i, node := range []**lab.Node{&c.n1, &c.n2, &c.n3} {
		n, err := c.AddNode(fmt.Sprintf("n%d", i+1), 11+i, "--insecure-registry", registryAddr)
		if err != nil {
			t.Fatal(err)
		}
		*node = n
	}
	var err error
	if c.client, err = c.AddHost("client", 100); err != nil {
		t.Fatal(err)
	}
	return c
}

// newCluster makes a cluster of three: n1 is the manager.
func newCluster(t *testing.T, name string) *cluster {
	t.Helper()
	c := newLab(t, name)
	c.loadImages(c.n1, c.n2, c.n3)
	c.ok(c.n1, "swarm", "init", "--advertise-addr", c.n1.Addr)
	token := c.ok(c.n1, "swarm", "join-token", "-q", "worker")
	for _, n := range []*lab.Node{c.n2, c.n3} {
		c.ok(n, "swarm", "join", "--token", token, c.n1.Addr+":2377")
	}
	return c
}

// loadImages gives nodes the test images.
func (c *cluster) loadImages(nodes ...*lab.Node) {
	c.t.Helper()
	archives, err := images.Build(c.t.Context(), images.CacheDir())
	if err != nil {
		c.t.Fatal(err)
	}
	var loading sync.WaitGroup
	for _, n := range nodes {
		loading.Go(func() {
			for _, archive := range archives {
				if r := c.docker(n, "image", "load", "-q", "-i", archive); r.Code != 0 {
					c.t.Errorf("load %s on %s: %s", archive, n.Name, r.Text())
				}
			}
		})
	}
	loading.Wait()
}

// dump shows the end of each daemon's log after a failure.
func (c *cluster) dump() {
	for _, n := range c.Nodes() {
		text, err := os.ReadFile(n.Log())
		if err != nil {
			continue
		}
		var lines []string
		for line := range strings.Lines(string(text)) {
			if !strings.Contains(line, "level=DEBUG") {
				lines = append(lines, line)
			}
		}
		const last = 40
		c.t.Logf("log of %s:\n%s", n.Name, strings.Join(lines[max(0, len(lines)-last):], ""))
		for _, at := range c.failedAt() {
			c.t.Logf("log of %s around %s:\n%s", n.Name, at.Format(time.TimeOnly), around(string(text), at))
		}
	}
}

// around is what a log says shortly before a moment and right after it.
func around(log string, at time.Time) string {
	var out strings.Builder
	for line := range strings.Lines(log) {
		_, text, _ := strings.Cut(line, "time=")
		text, _, _ = strings.Cut(text, " ")
		if t, err := time.Parse(time.RFC3339, text); err == nil && t.After(at.Add(-6*time.Second)) && t.Before(at.Add(2*time.Second)) {
			out.WriteString(line)
		}
	}
	return out.String()
}

// commandLimit bounds one docker command.
const commandLimit = 90 * time.Second

// docker runs a command and gives all that it did.
func (c *cluster) docker(n *lab.Node, args ...string) lab.Result {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(c.t.Context(), commandLimit)
	defer cancel()
	return n.Docker(ctx, args...)
}

// ok runs a command that must succeed and gives what it printed on stdout.
func (c *cluster) ok(n *lab.Node, args ...string) string {
	c.t.Helper()
	r := c.docker(n, args...)
	if r.Code != 0 {
		c.t.Fatalf("%s$ docker %s\n%s\nexit %d", n.Name, strings.Join(args, " "), r.Text(), r.Code)
	}
	return strings.TrimSpace(r.Stdout)
}

// refused runs a command that must fail with this code and a text that matches.
func (c *cluster) refused(n *lab.Node, code int, pattern string, args ...string) {
	c.t.Helper()
	r := c.docker(n, args...)
	if r.Code != code || !regexp.MustCompile(pattern).MatchString(r.Text()) {
		c.t.Errorf("%s$ docker %s\n%s\nexit %d; want exit %d and a text like %q", n.Name, strings.Join(args, " "), r.Text(), r.Code, code, pattern)
	}
}

// eventually waits until check returns nil.
func (c *cluster) eventually(limit time.Duration, what string, check func() error) {
	c.t.Helper()
	deadline := time.Now().Add(limit)
	for {
		err := check()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			c.t.Fatalf("after %v still not so: %s: %v", limit, what, err)
		}
		select {
		case <-c.t.Context().Done():
			c.t.Fatal(c.t.Context().Err())
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// http is a client on the client machine that makes a new connection for every request.
func (c *cluster) http() *http.Client { return httpFrom(c.client) }

func httpFrom(h *lab.Host) *http.Client {
	return &http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{DialContext: h.Dial, DisableKeepAlives: true}}
}

// get fetches a URL from the client machine.
func (c *cluster) get(url string) (string, error) {
	resp, err := c.http().Get(url)
	if err != nil {
		return "", err
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return "", err
	}
	if resp.StatusCode != http.StatusOK {
		return "", fmt.Errorf("%s: %s", url, resp.Status)
	}
	return string(body), nil
}

// inspect decodes what docker inspect says.
func (c *cluster) inspect(n *lab.Node, into any, args ...string) {
	c.t.Helper()
	text := c.ok(n, append(slices.Clip(args), "--format", "{{json .}}")...)
	if err := json.Unmarshal([]byte(text), into); err != nil {
		c.t.Fatalf("docker %s: %v\n%s", strings.Join(args, " "), err, text)
	}
}

// rows runs a command and gives its lines.
func (c *cluster) rows(n *lab.Node, args ...string) []string {
	c.t.Helper()
	text := c.ok(n, args...)
	if text == "" {
		return nil
	}
	return strings.Split(text, "\n")
}
