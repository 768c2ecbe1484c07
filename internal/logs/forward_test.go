package logs

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/shoal-dev/shoal/internal/logs/driver"
)

// collector is a log driver that keeps what it is sent.
type collector struct {
	mu     sync.Mutex // guards the fields below
	got    []string
	err    error         // of sending and connecting
	gate   chan struct{} // not nil: a message is taken when something can be received from it
	policy driver.Policy
}

func (c *collector) Connect(context.Context) error { return c.failure() }

func (c *collector) Close() {}

func (c *collector) failure() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.err
}

func (c *collector) set(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.err = err
}

func (c *collector) Send(ctx context.Context, m driver.Message) error {
	if c.gate != nil {
		select {
		case <-c.gate:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	if err := c.failure(); err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.got = append(c.got, string(m.Text))
	return nil
}

func (c *collector) lines() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.got)
}

// start opens the log in a directory and starts it for a run, as a daemon does.
func (c *collector) start(t *testing.T, dir string, running bool, options map[string]string) (*Log, error) {
	t.Helper()
	opts, err := ParseOptions("syslog", options)
	if err != nil {
		t.Fatal(err)
	}
	l := Open(opts.Path(dir, "id"), opts, nil)
	l.newSender = func(string, map[string]string, driver.Facts) (driver.Sender, driver.Policy, error) {
		return c, c.policy, nil
	}
	err = l.Start(t.Context(), Start{Options: options, Running: running, Logger: slog.New(slog.DiscardHandler), Go: func(f func()) { go f() }})
	l.Begin()
	return l, err
}

// numbered is a text of lines with the numbers from and below to.
func numbered(from, to int) string {
	var b strings.Builder
	for i := from; i < to; i++ {
		fmt.Fprintln(&b, i)
	}
	return b.String()
}

func TestLinesAreSentInOrderAndNoneIsLostWithTheDaemon(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		c := &collector{gate: make(chan struct{})}
		l, err := c.start(t, dir, false, nil)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = l.Writer(Stdout).Write([]byte(numbered(0, 100)))
		for range 10 {
			c.gate <- struct{}{}
		}
		synctest.Wait()
		l.current().cancel() // a daemon that is killed does no more
		synctest.Wait()
		// Another daemon goes on, while the container prints.
		l, err = c.start(t, dir, true, nil)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = l.Writer(Stderr).Write([]byte(numbered(100, 150)))
		close(c.gate)
		l.End()
		synctest.Wait()
		if got := strings.Join(c.lines(), "\n") + "\n"; got != numbered(0, 150) {
			t.Errorf("sent: %q", got)
		}
		if got := strings.Join(read(t, l, Query{Tail: -1, Stdout: true, Stderr: true}), ""); got != numbered(0, 150) {
			t.Errorf("docker logs: %q", got)
		}
		// There is nothing left of a container that ended, for the next daemon.
		l, _ = c.start(t, dir, true, nil)
		l.End()
		synctest.Wait()
		if n := len(c.lines()); n != 150 {
			t.Errorf("%d lines after another start", n)
		}
	})
}

func TestALogThatEndedWithoutADaemonIsSentByTheNext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		c := &collector{gate: make(chan struct{})}
		l, err := c.start(t, dir, false, nil)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = l.Writer(Stdout).Write([]byte(numbered(0, 3)))
		l.End()
		l.Close()
		next := Open(l.path, l.opts, nil)
		next.newSender = l.newSender
		close(c.gate)
		next.Resume(t.Context(), Start{Logger: slog.New(slog.DiscardHandler), Go: func(f func()) { go f() }})
		synctest.Wait()
		if got := c.lines(); len(got) != 3 || next.current() == nil {
			t.Errorf("%q", got)
		}
		again := Open(l.path, l.opts, nil)
		again.Resume(t.Context(), Start{})
		if again.current() != nil {
			t.Error("all was sent, and yet a sender is made")
		}
	})
}

// long is about 300 KiB of lines.
func long() string { return strings.Repeat(strings.Repeat("x", 1023)+"\n", 300) }

func TestWhoWaitsForACollector(t *testing.T) {
	down := errors.New("connection refused")
	for _, tc := range []struct {
		name    string
		options map[string]string
		policy  driver.Policy
		down    bool // else it is slow
		waits   bool // the container
	}{
		{"slow", nil, driver.Policy{}, false, true},
		{"slow, non-blocking", map[string]string{"mode": "non-blocking", "max-buffer-size": "8k"}, driver.Policy{}, false, false},
		{"slow, async", nil, driver.Policy{Async: true, Buffer: 1 << 20}, false, false},
		{"away", nil, driver.Policy{}, true, false},
		{"away, fluentd", nil, driver.Policy{Waits: true}, true, true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := &collector{policy: tc.policy}
				if !tc.down {
					c.gate = make(chan struct{})
				}
				l, err := c.start(t, t.TempDir(), false, tc.options)
				if err != nil {
					t.Fatal(err)
				}
				if tc.down {
					c.set(down)
				}
				_, _ = l.Writer(Stdout).Write([]byte("first\n"))
				synctest.Wait()
				written := make(chan struct{})
				go func() {
					_, _ = l.Writer(Stdout).Write([]byte(long()))
					close(written)
				}()
				synctest.Wait()
				select {
				case <-written:
					if tc.waits {
						t.Error("the container does not wait")
					}
				default:
					if !tc.waits {
						t.Error("the container waits")
					}
				}
				if got := len(read(t, l, Query{Tail: -1, Stdout: true})); got != 301 {
					t.Errorf("%d lines are kept on the node", got)
				}
				l.Exiting()
				<-written // nothing waits once the process has ended
				l.Close()
			})
		})
	}
}

func TestAStartNeedsTheCollector(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		down := errors.New("connection refused")
		c := &collector{err: down}
		if _, err := c.start(t, t.TempDir(), false, nil); !errors.Is(err, down) {
			t.Errorf("a start without the collector: %v", err)
		}
		dir := t.TempDir()
		l, err := c.start(t, dir, true, nil)
		if err != nil {
			t.Errorf("a container that runs already: %v", err)
		}
		_, _ = l.Writer(Stdout).Write([]byte("kept\n"))
		synctest.Wait()
		c.set(nil)
		l.Drain()
		if got := c.lines(); len(got) > 1 {
			t.Errorf("%q", got)
		}
		c.policy.Async = true
		c.set(down)
		l, err = c.start(t, t.TempDir(), false, nil)
		if err != nil {
			t.Errorf("async: %v", err)
		}
		l.Close()
	})
}

func TestARemovalWaitsForTheRestOfTheLog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := &collector{}
		l, err := c.start(t, t.TempDir(), false, nil)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = l.Writer(Stdout).Write([]byte(numbered(0, 500)))
		l.End()
		l.Drain()
		if got := len(c.lines()); got != 500 {
			t.Errorf("%d lines were sent", got)
		}
	})
}

func TestALogThatIsOnlyABufferCannotBeRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := &collector{}
		l, err := c.start(t, t.TempDir(), false, map[string]string{"cache-disabled": "true"})
		if err != nil {
			t.Fatal(err)
		}
		_, _ = l.Writer(Stdout).Write([]byte("a\nb"))
		l.End()
		l.Drain()
		if err := l.Read(t.Context(), Query{}, nil); err == nil || err.Error() != "configured logging driver does not support reading" {
			t.Error(err)
		}
	})
}

func TestValuesThatFailAStart(t *testing.T) {
	for _, tc := range []struct{ driver, options, want string }{
		{"json-file", "max-size=what", "invalid size: 'what'"},
		{"json-file", "max-size=-1", "invalid size: '-1'"},
		{"json-file", "max-size=0", "max-size must be a positive number"},
		{"json-file", "max-file=0", "max-file cannot be less than 1"},
		{"json-file", "compress=true", "compress cannot be true when max-file is less than 2 or max-size is not set"},
		{"json-file", "tag={{.X}}", `template: log-tag:1:2: executing "log-tag" at <.X>: can't evaluate field X in type *driver.tagFacts`},
		{"json-file", "labels-regex=(", "error parsing regexp: missing closing ): `(`"},
		{"local", "max-file=1", "compression cannot be enabled when max file count is 1"},
		{"local", "max-file=1,compress=false", ""},
		{"json-file", "max-size=10k,max-file=3,compress=true,tag={{.Name}}", ""},
	} {
		options := map[string]string{}
		for o := range strings.SplitSeq(tc.options, ",") {
			key, value, _ := strings.Cut(o, "=")
			options[key] = value
		}
		opts, _ := ParseOptions(tc.driver, options)
		got := ""
		if err := Open(filepath.Join(t.TempDir(), "log"), opts, nil).Start(t.Context(), Start{Options: options}); err != nil {
			got = err.Error()
		}
		if got != tc.want {
			t.Errorf("%s %s: %q, not %q", tc.driver, tc.options, got, tc.want)
		}
	}
}
