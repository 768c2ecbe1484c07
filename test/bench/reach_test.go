package bench

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/shoal-dev/shoal/test/images"
	"github.com/shoal-dev/shoal/test/lab"
)

// BenchmarkReach prints how long a task that has just become ready waits for its first request through the mesh of each node: clients
// ask every node without pause, and the service goes from one task to two and back.
func BenchmarkReach(b *testing.B) {
	const rounds = 30
	archives, err := images.Build(b.Context(), images.CacheDir())
	if err != nil {
		b.Fatal(err)
	}
	s, l := newShoal(b, "reach", archives["srv:1"])
	client, err := l.AddHost("client", 100)
	if err != nil {
		b.Fatal(err)
	}
	ctx := b.Context()
	in := map[string]any{
		"Name":         "web",
		"TaskTemplate": map[string]any{"ContainerSpec": map[string]any{"Image": "srv:1"}},
		"Mode":         map[string]any{"Replicated": map[string]any{"Replicas": 1}},
		"EndpointSpec": map[string]any{"Ports": []map[string]any{{"TargetPort": 80, "PublishedPort": 8080}}},
	}
	if err := s[0].call(ctx, http.MethodPost, "/services/create", in, nil); err != nil {
		b.Fatal(err)
	}
	if _, err := s.running(ctx, "web", 1); err != nil {
		b.Fatal(err)
	}
	var waits []time.Duration
	for b.Loop() {
		for range rounds {
			found, err := s.reach(ctx, l, client)
			if err != nil {
				b.Fatal(err)
			}
			waits = append(waits, found...)
		}
	}
	slices.Sort(waits)
	at := func(percent int) time.Duration {
		return waits[(len(waits)-1)*percent/100].Round(100 * time.Microsecond)
	}
	fmt.Printf("\nready → answering through each node: median %v, 99%% %v, longest %v of %d\n\n", at(50), at(99), at(100), len(waits))
}

// reach adds a task, and gives for each node the time from its being ready to its first answer there.
func (s swarm) reach(ctx context.Context, l *lab.Lab, client *lab.Host) ([]time.Duration, error) {
	before, err := s.running(ctx, "web", 1)
	if err != nil {
		return nil, err
	}
	asking, stop := context.WithCancel(ctx)
	defer stop()
	old := before[0].Status.ContainerStatus.ContainerID[:12]
	firsts := make([]time.Time, len(l.Nodes()))
	var clients sync.WaitGroup
	for i, n := range l.Nodes() {
		clients.Go(func() { firsts[i] = firstOther(asking, client, "http://"+n.Addr+":8080/", old) })
	}
	if err := s.scale(ctx, "web", 2); err != nil {
		return nil, err
	}
	after, err := s.running(ctx, "web", 2)
	if err != nil {
		return nil, err
	}
	clients.Wait()
	var waits []time.Duration
	for _, t := range after {
		if t.Status.ContainerStatus.ContainerID[:12] == old {
			continue
		}
		for _, first := range firsts {
			waits = append(waits, first.Sub(t.Status.Timestamp))
		}
	}
	if err := s.scale(ctx, "web", 1); err != nil {
		return nil, err
	}
	_, err = s.running(ctx, "web", 1)
	return waits, err
}

// firstOther asks until another container than old answers.
func firstOther(ctx context.Context, from *lab.Host, url, old string) time.Time {
	client := &http.Client{Timeout: time.Second, Transport: &http.Transport{DialContext: from.Dial, DisableKeepAlives: true}}
	for ctx.Err() == nil {
		resp, err := client.Get(url)
		if err != nil {
			continue
		}
		body, err := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		if err == nil && !strings.Contains(string(body), "host="+old) {
			return time.Now()
		}
	}
	return time.Time{}
}
