// Package streams connects a container's standard streams to its log and to the clients that are attached to it. It reads what
// clients type and what the container prints; it writes the log.
package streams

import (
	"errors"
	"io"
	"slices"
	"sync"

	"github.com/shoal-dev/shoal/internal/logs"
)

// Streams are the standard streams of one container, from before its first start until it is removed. They are safe for concurrent
// use. The zero Streams has no clients and is ready for use.
type Streams struct {
	mu      sync.Mutex // guards clients, stdin
	clients []*client
	stdin   *stdin // nil until a client or a task asks for it
}

// client is one attached client. A nil writer gets nothing of its stream.
type client struct {
	stdout, stderr io.Writer
	ended          chan struct{} // closed when the container has ended
}

// stdin is the pipe from attached clients to the container's standard input.
type stdin struct {
	r *io.PipeReader
	w *io.PipeWriter
}

// Attach adds a client, which gets all output from now on until it calls detach; a nil writer gets nothing. The channel is closed when
// the container ends. detach may be called at any time.
func (s *Streams) Attach(stdout, stderr io.Writer) (ended <-chan struct{}, detach func()) {
	c := &client{stdout: stdout, stderr: stderr, ended: make(chan struct{})}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.clients = append(s.clients, c)
	return c.ended, func() { s.remove(c) }
}

// remove detaches a client, if it is attached.
func (s *Streams) remove(c *client) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if at := slices.Index(s.clients, c); at >= 0 {
		s.clients = slices.Delete(s.clients, at, at+1)
	}
}

// Stdin returns the writer through which an attached client reaches the container's standard input. A client may write before the
// container starts; the write then blocks until it does. Closing the writer ends the input for all clients.
func (s *Streams) Stdin() io.WriteCloser { return s.pipe().w }

// TaskStdin returns what a task that is about to start reads as its standard input. ended is called when the input has ended, in a
// goroutine of its own.
func (s *Streams) TaskStdin(ended func()) io.Reader { return NotifyEnd(s.pipe().r, ended) }

// pipe returns the pipe to standard input, and makes it if there is none since the last End.
func (s *Streams) pipe() *stdin {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stdin == nil {
		r, w := io.Pipe()
		s.stdin = &stdin{r: r, w: w}
	}
	return s.stdin
}

// End detaches every client because the container has ended, and ends the container's standard input. The next Attach or TaskStdin
// begins anew.
func (s *Streams) End() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, c := range s.clients {
		close(c.ended)
	}
	s.clients = nil
	if s.stdin != nil {
		_ = s.stdin.w.Close() // the ends of a pipe close without errors
		_ = s.stdin.r.Close()
		s.stdin = nil
	}
}

// Output returns the writer for one of the container's output streams. It writes to the log and to all attached clients, and never
// fails: a client whose writer fails is detached.
func (s *Streams) Output(log *logs.Writer, stream logs.Stream) io.Writer {
	return &output{streams: s, log: log, stream: stream}
}

// output is one output stream of the container.
type output struct {
	streams *Streams
	log     *logs.Writer
	stream  logs.Stream
}

// Write implements io.Writer.
func (o *output) Write(p []byte) (int, error) {
	o.log.Add(p)
	o.send(p)
	o.log.Wait()
	return len(p), nil
}

// send writes to the clients.
func (o *output) send(p []byte) {
	o.streams.mu.Lock()
	clients := slices.Clone(o.streams.clients)
	o.streams.mu.Unlock()
	for _, c := range clients {
		to := c.stdout
		if o.stream == logs.Stderr {
			to = c.stderr
		}
		if to == nil {
			continue
		}
		if _, err := to.Write(p); err != nil {
			o.streams.remove(c)
		}
	}
}

// ReadFrom copies r to its end and then logs a last line that has no newline. io.Copy prefers it to Write.
func (o *output) ReadFrom(r io.Reader) (int64, error) {
	n, err := o.readPipe(r)
	if errors.Is(err, errors.ErrUnsupported) {
		n, err = io.Copy(struct{ io.Writer }{o}, r)
	}
	o.log.Flush()
	return n, err
}

// readPipe copies a pipe. What it copies is in the log before it is out of the pipe.
func (o *output) readPipe(r io.Reader) (total int64, err error) {
	p := newPeeker(r)
	if p == nil {
		return 0, errors.ErrUnsupported
	}
	buf := make([]byte, chunk)
	for {
		n, err := p.peek(buf)
		if errors.Is(err, io.EOF) {
			return total, nil
		}
		if err != nil {
			return total, err
		}
		o.log.Add(buf[:n])
		if err := p.drop(buf[:n]); err != nil { // the same bytes again
			return total, err
		}
		total += int64(n)
		o.send(buf[:n])
		o.log.Wait()
	}
}

// NotifyEnd returns a reader of r that calls ended, in a goroutine of its own, when a read of r has failed or found its end.
func NotifyEnd(r io.Reader, ended func()) io.Reader { return &notifyEnd{r: r, ended: ended} }

// notifyEnd is the reader that NotifyEnd returns.
type notifyEnd struct {
	r     io.Reader
	ended func()
}

// Read implements io.Reader.
func (n *notifyEnd) Read(p []byte) (int, error) {
	count, err := n.r.Read(p)
	if err != nil {
		go n.ended()
	}
	return count, err
}
