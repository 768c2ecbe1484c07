// Package bench measures what users wait for and what an idle node costs, always beside a yardstick in the same run: the raw OCI
// runtime, and Debian's Docker where it can run. It reads the built binary and the test images; it makes labs, and removes them.
package bench

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// engine is a Docker Engine API at a unix socket: shoal's or Docker's.
type engine struct{ client *http.Client }

func dial(socket string) *engine {
	return &engine{&http.Client{Transport: &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "unix", socket)
		},
	}}}
}

// call makes a request and decodes its answer into out, if that is given.
func (e *engine) call(ctx context.Context, method, path string, in, out any) error {
	var body io.Reader
	if in != nil {
		text, err := json.Marshal(in)
		if err != nil {
			return err
		}
		body = bytes.NewReader(text)
	}
	req, err := http.NewRequestWithContext(ctx, method, "http://docker/v1.41"+path, body)
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := e.client.Do(req)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		return err
	}
	if resp.StatusCode >= http.StatusBadRequest {
		return fmt.Errorf("%s %s: %s: %s", method, path, resp.Status, bytes.TrimSpace(text))
	}
	if out == nil {
		return nil
	}
	return json.Unmarshal(text, out)
}

// load gives the engine an image from a docker archive.
func (e *engine) load(ctx context.Context, archive string) error {
	f, err := os.Open(archive)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://docker/v1.41/images/load?quiet=1", f)
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/x-tar")
	resp, err := e.client.Do(req)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	text, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("load %s: %s: %s", archive, resp.Status, text)
	}
	return err
}

// swarm is a cluster of engines that have the image busybox; the first manages it.
type swarm []*engine

// join makes engines one cluster. addrs are where they reach one another.
func (s swarm) join(ctx context.Context, addrs []string) error {
	const port = ":2377"
	first := map[string]any{"ListenAddr": addrs[0] + port, "AdvertiseAddr": addrs[0]}
	if err := s[0].call(ctx, http.MethodPost, "/swarm/init", first, nil); err != nil {
		return err
	}
	var cluster struct{ JoinTokens struct{ Worker string } }
	if err := s[0].call(ctx, http.MethodGet, "/swarm", nil, &cluster); err != nil {
		return err
	}
	for i, e := range s[1:] {
		addr := addrs[i+1]
		in := map[string]any{
			"ListenAddr": addr + port, "AdvertiseAddr": addr, "RemoteAddrs": []string{addrs[0] + port}, "JoinToken": cluster.JoinTokens.Worker,
		}
		if err := e.call(ctx, http.MethodPost, "/swarm/join", in, nil); err != nil {
			return err
		}
	}
	return until(ctx, func() (bool, error) {
		var nodes []struct{ Status struct{ State string } }
		err := s[0].call(ctx, http.MethodGet, "/nodes", nil, &nodes)
		ready := 0
		for _, n := range nodes {
			if n.Status.State == "ready" {
				ready++
			}
		}
		return ready == len(s), err
	})
}

// start creates a service of so many tasks and returns how long it took until all of them ran.
func (s swarm) start(ctx context.Context, name string, replicas int) (time.Duration, error) {
	in := map[string]any{
		"Name": name,
		"TaskTemplate": map[string]any{"ContainerSpec": map[string]any{
			"Image": "busybox:latest", "Command": []string{"sleep", "3600"}, "StopGracePeriod": 1,
		}},
		"Mode": map[string]any{"Replicated": map[string]any{"Replicas": replicas}},
	}
	began := time.Now()
	if err := s[0].call(ctx, http.MethodPost, "/services/create", in, nil); err != nil {
		return 0, err
	}
	filter := url.QueryEscape(fmt.Sprintf(`{"service":{%q:true},"desired-state":{"running":true}}`, name))
	err := until(ctx, func() (bool, error) {
		var tasks []struct {
			Status struct{ State, Err string }
		}
		err := s[0].call(ctx, http.MethodGet, "/tasks?filters="+filter, nil, &tasks)
		running := 0
		for _, t := range tasks {
			if t.Status.State == "running" {
				running++
			}
		}
		return running == replicas, err
	})
	return time.Since(began), err
}

// remove removes a service and waits until no container is left on any node.
func (s swarm) remove(ctx context.Context, name string) error {
	if err := s[0].call(ctx, http.MethodDelete, "/services/"+name, nil, nil); err != nil {
		return err
	}
	for _, e := range s {
		err := until(ctx, func() (bool, error) {
			var containers []struct{ Id string } //nolint:revive // the API's name
			err := e.call(ctx, http.MethodGet, "/containers/json?all=1", nil, &containers)
			return len(containers) == 0, err
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// measure is the median time of several starts.
func (s swarm) measure(ctx context.Context, replicas, times int) (time.Duration, error) {
	var took []time.Duration
	for i := range times {
		name := fmt.Sprintf("bench-%d-%d", replicas, i)
		d, err := s.start(ctx, name, replicas)
		if err != nil {
			return 0, fmt.Errorf("start %d tasks: %w", replicas, err)
		}
		took = append(took, d)
		if err := s.remove(ctx, name); err != nil {
			return 0, fmt.Errorf("remove %d tasks: %w", replicas, err)
		}
	}
	return median(took), nil
}

func median(all []time.Duration) time.Duration {
	slices.Sort(all)
	return all[len(all)/2]
}

// until asks again and again, at intervals that are small against the time that has passed, so that asking neither blurs
// nor slows what is measured.
func until(ctx context.Context, ask func() (bool, error)) error {
	const shortest, share, limit = 5 * time.Millisecond, 50, time.Minute
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	for began := time.Now(); ; {
		done, err := ask()
		if done || err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(max(shortest, time.Since(began)/share)):
		}
	}
}

// memory is what processes hold, in KiB: the sum of their resident sets, and their shares of it.
type memory struct{ rss, pss int }

func memoryOf(pids ...int) (memory, error) {
	var m memory
	for _, pid := range pids {
		text, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "smaps_rollup"))
		if err != nil {
			return m, err
		}
		for line := range strings.Lines(string(text)) {
			fields := strings.Fields(line)
			if len(fields) < 2 {
				continue
			}
			size, _ := strconv.Atoi(fields[1]) // the header has none, and is not asked for
			switch fields[0] {
			case "Rss:":
				m.rss += size
			case "Pss:":
				m.pss += size
			}
		}
	}
	return m, nil
}

func (m memory) String() string { return fmt.Sprintf("RSS %d MiB, PSS %d MiB", m.rss>>10, m.pss>>10) }
