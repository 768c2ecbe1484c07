package container

import (
	"io"
	"slices"
	"sync"

	"github.com/shoal-dev/shoal/internal/logs"
)

// stdio connects a container's standard streams to its log and to the clients that are attached to it.
type stdio struct {
	mu      sync.Mutex // guards clients, input
	clients []*attachedClient
	input   *stdinPipe // nil until a client or a task asks for it
}

// attachedClient is one client that follows a container's output. A nil writer takes nothing.
type attachedClient struct {
	stdout, stderr io.Writer
	done           chan struct{} // closed when the container has ended
}

func newStdio() *stdio { return &stdio{} }

// attach adds a client; the returned channel is closed when the container ends.
func (s *stdio) attach(stdout, stderr io.Writer) (done <-chan struct{}, detach func()) {
	c := &attachedClient{stdout: stdout, stderr: stderr, done: make(chan struct{})}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.clients = append(s.clients, c)
	return c.done, func() { s.remove(c) }
}

func (s *stdio) remove(c *attachedClient) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if at := slices.Index(s.clients, c); at >= 0 {
		s.clients = slices.Delete(s.clients, at, at+1)
	}
}

// disconnectAll tells every client that the container has ended, and closes the container's standard input.
func (s *stdio) disconnectAll() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, c := range s.clients {
		close(c.done)
	}
	s.clients = nil
	if s.input != nil {
		s.input.w.Close()
		s.input.r.Close()
		s.input = nil
	}
}

// output returns the writer that one of the container's streams goes to.
func (s *stdio) output(log *logs.Writer, stderr bool) io.Writer {
	return &fanout{stdio: s, log: log, stderr: stderr}
}

// fanout writes one output stream to the log and to all attached clients. A client whose writer fails is detached; the
// container never sees an error.
type fanout struct {
	stdio  *stdio
	log    *logs.Writer
	stderr bool
}

func (f *fanout) Write(p []byte) (int, error) {
	_, _ = f.log.Write(p)
	f.stdio.mu.Lock()
	clients := slices.Clone(f.stdio.clients)
	f.stdio.mu.Unlock()
	for _, c := range clients {
		to := c.stdout
		if f.stderr {
			to = c.stderr
		}
		if to == nil {
			continue
		}
		if _, err := to.Write(p); err != nil {
			f.stdio.remove(c)
		}
	}
	return len(p), nil
}

// ReadFrom copies r to its end and then logs a last line that has no newline.
func (f *fanout) ReadFrom(r io.Reader) (int64, error) {
	n, err := io.Copy(struct{ io.Writer }{f}, r)
	f.log.Flush()
	return n, err
}

// stdinPipe is a container's standard input. It is made before the container starts, so that a client can attach first.
type stdinPipe struct {
	r     *io.PipeReader
	w     *io.PipeWriter
	onEOF func()
}

// stdinPipe returns the container's standard input, and makes it if there is none yet.
func (s *stdio) stdinPipe() *stdinPipe {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.input == nil {
		r, w := io.Pipe()
		s.input = &stdinPipe{r: r, w: w}
	}
	return s.input
}

// taskStdin returns the reader for a task that is about to start; onEOF is called when its input has ended.
func (s *stdio) taskStdin(onEOF func()) io.Reader {
	p := s.stdinPipe()
	p.onEOF = onEOF
	return p
}

func (p *stdinPipe) Read(b []byte) (int, error) {
	n, err := p.r.Read(b)
	if err != nil && p.onEOF != nil {
		go p.onEOF()
	}
	return n, err
}
