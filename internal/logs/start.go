package logs

import (
	"context"
	"log/slog"
	"maps"
	"sync"
	"time"

	"github.com/docker/go-units"

	"github.com/shoal-dev/shoal/internal/logs/driver"
)

// Bounds of what waits to be sent, in bytes.
const (
	blockingQueue    = 64 << 10
	nonBlockingQueue = 1e6
)

// drainTimeout bounds the wait for the rest of a log when its container is removed, as in Docker.
const drainTimeout = 10 * time.Second

// Start is what a log needs for a run of its container.
type Start struct {
	Options map[string]string // of the log driver
	Facts   driver.Facts
	Running bool // the container runs already: a driver that cannot be reached is no error
	Logger  *slog.Logger
	Go      func(func()) // runs a function in a goroutine; Close ends what runs in it
}

// Start makes the log ready for a run of its container, before Begin: it reads what the driver's options say, and reaches the driver if it keeps lines elsewhere. An error is
// what fails the start of the container.
func (l *Log) Start(ctx context.Context, s Start) error {
	if _, err := ParseOptions(l.opts.Driver, s.Options); err != nil && !s.Running {
		return err
	}
	attrs, err := lineAttributes(l.opts.Driver, s.Facts, s.Options)
	if err != nil && !s.Running {
		return err
	}
	l.mu.Lock()
	l.attrs = attrs
	l.mu.Unlock()
	if !s.Running {
		l.Recover()
	}
	if !remote(l.opts.Driver) {
		return nil
	}
	return l.startForwarder(ctx, s)
}

// lineAttributes is what the options add to each line.
func lineAttributes(name string, f driver.Facts, options map[string]string) (map[string]string, error) {
	if name != driver.JSONFile && name != "journald" { // the drivers that Docker reads attributes from
		return nil, nil
	}
	attrs, err := driver.Attributes(f, options, nil)
	if err != nil || name != driver.JSONFile || options["tag"] == "" {
		return attrs, err
	}
	tag, err := driver.Tag(f, options, "")
	if err != nil || tag == "" {
		return attrs, err
	}
	attrs = maps.Clone(attrs)
	if attrs == nil {
		attrs = map[string]string{}
	}
	attrs["tag"] = tag
	return attrs, nil
}

// startForwarder begins to hand lines on, from what was not sent by an earlier forwarder.
func (l *Log) startForwarder(ctx context.Context, s Start) error {
	l.Close()
	sender, policy, err := l.newSender(l.opts.Driver, s.Options, s.Facts)
	if err != nil {
		if s.Running {
			s.Logger.Error("log driver of a running container cannot be had; what it prints is kept on the node only", "container", s.Facts.ID, "err", err)
			return nil
		}
		return err
	}
	if !s.Running && !policy.Async {
		if err := sender.Connect(ctx); err != nil {
			return err
		}
	}
	sent, from, err := openPosition(l.path + positionSuffix)
	if err != nil {
		sender.Close()
		return err
	}
	f := &forwarder{
		log: l, sender: sender, policy: policy, logger: s.Logger, id: s.Facts.ID, sent: sent, from: from, until: l.lastTime(), limit: blockingQueue,
		done: make(chan struct{}), ready: make(chan struct{}, 1), parts: map[Stream]*driver.Parts{Stdout: {}, Stderr: {}},
	}
	f.room = sync.NewCond(&f.mu)
	f.setMode(s.Options)
	run, cancel := context.WithCancel(context.WithoutCancel(ctx))
	f.cancel = cancel
	l.mu.Lock()
	l.forwarder = f
	if f.until.After(l.last) {
		l.last = f.until
	}
	l.mu.Unlock()
	s.Go(func() { f.run(run) })
	return nil
}

// setMode reads what happens when the queue is full.
func (f *forwarder) setMode(options map[string]string) {
	if options["mode"] == driver.ModeNonBlocking {
		f.drops, f.limit = true, nonBlockingQueue
		if n, err := units.RAMInBytes(options["max-buffer-size"]); err == nil {
			f.limit = n
		}
	}
	if f.policy.Async {
		f.drops, f.limit = true, max(f.limit, f.policy.Buffer)
	}
}

// Resume sends what an earlier run of the daemon has left of the log of a container that does not run.
func (l *Log) Resume(ctx context.Context, s Start) {
	if !remote(l.opts.Driver) || !l.lastTime().After(readPosition(l.path+positionSuffix)) {
		return
	}
	s.Running = true // a driver that cannot be reached is tried again
	if err := l.Start(ctx, s); err != nil {
		s.Logger.Error("what is left of a container's log cannot be sent to its log driver", "container", s.Facts.ID, "err", err)
		return
	}
	l.current().endIfAny()
}

// current is the forwarder, nil if there is none.
func (l *Log) current() *forwarder {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.forwarder
}

// endIfAny ends a forwarder that may be nil.
func (f *forwarder) endIfAny() {
	if f != nil {
		f.end()
	}
}

// Exiting tells that the container's process has ended: its last output waits for nothing.
func (l *Log) Exiting() {
	if f := l.current(); f != nil {
		f.exit()
	}
}

// Close stops sending. What was not sent is when the container starts again, or after Resume.
func (l *Log) Close() {
	if f := l.current(); f != nil {
		f.stop(0)
	}
}

// Drain waits, for a bounded time, until all lines were sent, and stops sending, because the log is about to be removed.
func (l *Log) Drain() {
	if f := l.current(); f != nil {
		f.stop(drainTimeout)
	}
}
