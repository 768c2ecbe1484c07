package e2e

import (
	"io"
	"sync"
	"testing"
	"time"

	"github.com/shoal-dev/shoal/test/load"
)

// tolerance is how long after a cut requests may fail.
const tolerance = time.Second

// A node whose cable is pulled costs nothing beyond a second, although the managers have not yet given it up; when the cable is
// back, so is the node, and nobody need do anything.
func TestACutLinkCostsNoMoreThanASecond(t *testing.T) {
	c := newCluster(t, "cable")
	c.create(c.n1, "--name", "web", "--mode", "global", "-p", "8080:80", "srv:1")
	var mu sync.Mutex // guards failures
	var failures []load.Failure
	urls := c.everyNode(8080)
	l := load.Start(t.Context(), load.Config{URLs: urls[:2], Dial: c.client.Dial, Workers: 2, Failed: func(f load.Failure) {
		mu.Lock()
		defer mu.Unlock()
		failures = append(failures, f)
	}})
	traffic := &traffic{l, c}
	traffic.more(200)
	cut := time.Now()
	if err := c.n3.Cut(); err != nil {
		t.Fatal(err)
	}
	c.eventually(30*time.Second, "n3 is down", func() error { return c.nodeIs("n3", "Down") })
	traffic.more(200)
	if err := c.n3.Mend(); err != nil {
		t.Fatal(err)
	}
	c.eventually(30*time.Second, "n3 is ready", func() error { return c.nodeIs("n3", "Ready") })
	c.settled(c.n1, "web")
	traffic.more(200)
	l.Stop()

	for _, f := range failures {
		if late := f.Began.Sub(cut); late > tolerance {
			t.Errorf("%v after the cut: %v", late.Round(time.Millisecond), f)
		} else {
			t.Logf("%v after the cut: %v", late.Round(time.Millisecond), f)
		}
	}
	t.Logf("%d requests, %d failed", l.Sent(), l.Failed())
	c.spreadOver(urls[0], 3)
}

// spreadOver wants so many tasks to answer the same number of requests each. The client is a new one; see spreadEvenly.
func (c *cluster) spreadOver(url string, tasks int) {
	c.t.Helper()
	fresh, err := c.AddHost("fresh", 150)
	if err != nil {
		c.t.Fatal(err)
	}
	const each = 20
	answers := map[string]int{}
	for range each * tasks {
		resp, err := httpFrom(fresh).Get(url)
		if err != nil {
			c.t.Fatalf("%v\n%s\n%s", err, c.ok(c.n1, "service", "ps", "--no-trunc", "web"), c.ok(c.n3, "ps", "-a", "--no-trunc"))
		}
		body, err := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		if err != nil {
			c.t.Fatal(err)
		}
		answers[string(body)]++
	}
	for answer, times := range answers {
		if len(answers) != tasks || times != each {
			c.t.Errorf("%d of %d requests got %q from one of %d tasks", times, each*tasks, answer, len(answers))
		}
	}
}
