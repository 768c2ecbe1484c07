package driver

import (
	"context"
	"errors"
	"fmt"
	"math"
	"time"
)

// Message is a line on its way to a log driver.
type Message struct {
	Text    []byte // without the newline
	Stderr  bool
	Time    time.Time
	Partial *Partial // nil for a whole line
}

// Partial says which part of a line that is longer than 16 KiB a message is.
type Partial struct {
	ID      string
	Ordinal int // from 1
	Last    bool
}

// Sender sends messages to where a log driver keeps them. Its methods are called by one goroutine at a time.
type Sender interface {
	// Connect makes the connection, if the protocol has any. Without it, the first Send does.
	Connect(ctx context.Context) error
	// Send returns once the message has been handed over. After an error it may be sent again; not after ErrRejected. It ends when ctx does.
	Send(ctx context.Context, m Message) error
	// Close ends the connection.
	Close()
}

// ErrRejected is in the chain of errors of messages that can never be sent.
var ErrRejected = errors.New("the message cannot be sent")

// Policy is how a driver deals with a collector that cannot be reached.
type Policy struct {
	Tries    int           // of a message before it is given up; 0: it is tried until the collector is back
	Wait     time.Duration // before the second try; doubled up to MaxWait
	MaxWait  time.Duration
	Waits    bool  // in blocking mode the container waits also for a collector that cannot be reached, not only for a slow one
	Async    bool  // as non-blocking, with a buffer of Buffer bytes; the collector need not be there at the start
	Buffer   int64 // bytes; see Async
	Datagram bool  // nobody answers: an error of the socket says nothing of the collector
}

// New returns the sender of a log driver, nil for one that keeps lines in files of the node, or not at all. An error is what fails a start in Docker.
func New(name string, options map[string]string, f Facts) (Sender, Policy, error) {
	p := Policy{Wait: 100 * time.Millisecond, MaxWait: 10 * time.Second}
	switch name {
	case "syslog":
		s, err := newSyslog(options, f)
		if err != nil {
			return nil, p, err
		}
		p.Datagram = s.network == "udp"
		return s, p, nil
	case "journald":
		s, err := newJournald(journalSocket, options, f)
		if err != nil {
			return nil, p, err
		}
		return s, p, nil
	case "gelf":
		return newGELF(options, f, p)
	case "fluentd":
		return newFluentd(options, f, p)
	}
	return nil, p, nil
}

// leastWait is the least wait between tries, whatever the options say: a collector that is away must not take a processor.
const leastWait = 50 * time.Millisecond

// backoff is the wait before the try after the given number of them.
func (p Policy) backoff(tries int) time.Duration {
	factor := math.Pow(2, float64(min(tries, 32)-1))
	return max(leastWait, time.Duration(min(float64(p.Wait)*factor, float64(max(p.MaxWait, p.Wait)))))
}

// Backoff waits before the try after the given number of them; the error is that of ctx.
func (p Policy) Backoff(ctx context.Context, tries int) error {
	timer := time.NewTimer(p.backoff(tries))
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}

// rejected makes an error one of a message that can never be sent.
func rejected(format string, args ...any) error {
	return fmt.Errorf("%w: %w", ErrRejected, fmt.Errorf(format, args...))
}
