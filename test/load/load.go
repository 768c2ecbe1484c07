// Package load sends HTTP requests until it is told to stop and counts those that failed. It reads and writes nothing but the
// connections that it is given a way to make.
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

// Config is where to send requests, and how.
type Config struct {
	URLs []string
	// Dial makes connections; nil: from this machine.
	Dial func(ctx context.Context, network, addr string) (net.Conn, error)
	// Kept says that a worker sends one request after the other on one connection; otherwise each request has its own.
	Kept bool
	// Pause is how long a worker waits after each request; 0: not at all.
	Pause time.Duration
	// Workers is how many requests are sent at a time to each URL; 0: one.
	Workers int
	// Failed is called for each request that failed, by several goroutines at once; may be nil.
	Failed func(Failure)
}

// Failure is a request that failed.
type Failure struct {
	URL   string
	Began time.Time
	Took  time.Duration
	Err   error
}

// String is the failure in one line.
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

// Start starts to send requests; it goes on until Stop, or ctx ends.
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

// Sent counts the requests that have ended, failed ones included.
func (l *Load) Sent() int64 { return l.sent.Load() }

// Failed counts the requests that failed.
func (l *Load) Failed() int64 { return l.failed.Load() }

// Stop sends no further requests and returns when the last one has ended.
func (l *Load) Stop() {
	l.stop()
	l.done.Wait()
}

// work sends requests to one URL. It has a transport of its own, so that a kept connection is never idle: a server may close one that
// is, which would look like a failure.
func (l *Load) work(ctx context.Context, url string) {
	transport := &http.Transport{DialContext: l.cfg.Dial, DisableKeepAlives: !l.cfg.Kept}
	defer transport.CloseIdleConnections()
	client := &http.Client{Timeout: 5 * time.Second, Transport: transport}
	for ctx.Err() == nil {
		began := time.Now()
		err := l.request(client, url)
		took := time.Since(began)
		l.sent.Add(1)
		if l.cfg.Pause > 0 {
			time.Sleep(l.cfg.Pause)
		}
		if err == nil {
			continue
		}
		l.failed.Add(1)
		if l.cfg.Failed != nil {
			l.cfg.Failed(Failure{url, began, took, err})
		}
	}
}

// request sends one request. On a kept connection it is a POST, because Go's client silently repeats a GET when it finds the
// connection closed, and the failure would not be counted.
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
