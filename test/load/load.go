// Package load sends HTTP requests until it is stopped and counts those that failed. It reads and writes nothing but its connections.
package load

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// Config says which requests to send, and how.
type Config struct {
	URLs []string
	// Dial opens connections; nil opens them from this machine.
	Dial func(ctx context.Context, network, addr string) (net.Conn, error)
	// Kept means that a worker sends all its requests on one connection; otherwise it opens one for each request.
	Kept bool
	// Workers is how many requests are sent at a time to each URL; 0 means 1.
	Workers int
	// Failed, optional, is called for each request that failed, by several goroutines at a time.
	Failed func(Failure)
}

// Failure is a request that failed.
type Failure struct {
	URL   string
	Began time.Time
	Took  time.Duration
	Err   error
}

func (f Failure) String() string {
	return fmt.Sprintf("%s %s, after %v: %v", f.Began.Format("15:04:05.000"), f.URL, f.Took.Round(time.Millisecond), f.Err)
}

// Load sends requests until Stop.
type Load struct {
	cfg          Config
	stop         context.CancelFunc
	done         sync.WaitGroup
	sent, failed atomic.Int64
}

// Start begins to send requests.
func Start(ctx context.Context, cfg Config) *Load {
	ctx, stop := context.WithCancel(ctx)
	l := &Load{cfg: cfg, stop: stop}
	for _, url := range cfg.URLs {
		for range max(cfg.Workers, 1) {
			l.done.Go(func() { l.work(ctx, url) })
		}
	}
	return l
}

// Sent is how many requests have ended.
func (l *Load) Sent() int64 { return l.sent.Load() }

// Failed is how many of them failed.
func (l *Load) Failed() int64 { return l.failed.Load() }

// Stop sends no further requests and waits for those under way.
func (l *Load) Stop() {
	l.stop()
	l.done.Wait()
}

// work sends requests to a URL. It has a transport of its own, so that its connection is never idle: a server closes idle connections when it stops,
// and that would be no failure.
func (l *Load) work(ctx context.Context, url string) {
	transport := &http.Transport{DialContext: l.cfg.Dial, DisableKeepAlives: !l.cfg.Kept}
	defer transport.CloseIdleConnections()
	client := &http.Client{Timeout: 5 * time.Second, Transport: transport}
	for ctx.Err() == nil {
		began := time.Now()
		err := l.request(client, url)
		l.sent.Add(1)
		if err == nil {
			continue
		}
		l.failed.Add(1)
		if l.cfg.Failed != nil {
			l.cfg.Failed(Failure{url, began, time.Since(began), err})
		}
	}
}

// request posts on a kept connection, because the client would silently repeat a GET that finds it closed.
func (l *Load) request(client *http.Client, url string) (err error) {
	var resp *http.Response
	if l.cfg.Kept {
		resp, err = client.Post(url, "text/plain", strings.NewReader("x"))
	} else {
		resp, err = client.Get(url)
	}
	if err != nil {
		return err
	}
	_, err = io.Copy(io.Discard, resp.Body)
	if closed := resp.Body.Close(); err == nil {
		err = closed
	}
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s", resp.Status)
	}
	return err
}
