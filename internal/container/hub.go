package container

import (
	"io"
	"slices"
	"sync"

	"github.com/shoal-dev/shoal/internal/logs"
)

// hub joins a container's standard streams with the clients that are attached to it.
type hub struct {
	mu      sync.Mutex // guards clients, in
	clients []*attached
	in      *stdinPipe
}

type attached struct {
	stdout, stderr io.Writer
	done           chan struct{} // closed when the container has ended
}

func newHub() *hub { return &hub{} }

// attach adds a client; the returned channel is closed when the container ends.
func (h *hub) attach(stdout, stderr io.Writer) (done <-chan struct{}, detach func()) {
	a := &attached{stdout: stdout, stderr: stderr, done: make(chan struct{})}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.clients = append(h.clients, a)
	return a.done, func() { h.drop(a) }
}

func (h *hub) drop(a *attached) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if at := slices.Index(h.clients, a); at >= 0 {
		h.clients = slices.Delete(h.clients, at, at+1)
	}
}

// finish tells all clients that the container has ended.
func (h *hub) finish() {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, a := range h.clients {
		close(a.done)
	}
	h.clients = nil
	if h.in != nil {
		h.in.w.Close()
		h.in.r.Close()
		h.in = nil
	}
}

// output returns the writer that one of the container's streams goes to.
func (h *hub) output(log *logs.Writer, stderr bool) io.Writer {
	return &fanout{hub: h, log: log, stderr: stderr}
}

type fanout struct {
	hub    *hub
	log    *logs.Writer
	stderr bool
}

func (f *fanout) Write(p []byte) (int, error) {
	_, _ = f.log.Write(p)
	f.hub.mu.Lock()
	clients := slices.Clone(f.hub.clients)
	f.hub.mu.Unlock()
	for _, a := range clients {
		to := a.stdout
		if f.stderr {
			to = a.stderr
		}
		if to == nil {
			continue
		}
		if _, err := to.Write(p); err != nil {
			f.hub.drop(a)
		}
	}
	return len(p), nil
}

// ReadFrom copies everything and logs an unfinished last line.
func (f *fanout) ReadFrom(r io.Reader) (int64, error) {
	n, err := io.Copy(struct{ io.Writer }{f}, r)
	f.log.Flush()
	return n, err
}

// stdinPipe is a container's standard input, there before the container starts, so that clients can attach first.
type stdinPipe struct {
	r     *io.PipeReader
	w     *io.PipeWriter
	onEOF func()
}

func (h *hub) pipe() *stdinPipe {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.in == nil {
		r, w := io.Pipe()
		h.in = &stdinPipe{r: r, w: w}
	}
	return h.in
}

// stdin returns the reader for a task that starts; onEOF is called when its input has ended.
func (h *hub) stdin(onEOF func()) io.Reader {
	p := h.pipe()
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
