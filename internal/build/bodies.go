package build

import (
	"io"
	"net/http"
	"strings"
	"sync"

	"github.com/containerd/errdefs"
	"github.com/moby/buildkit/identity"
)

// bodyHost begins the host name of an address that stands for the body of a client's request.
const bodyHost = "body-of-request-"

// bodies lets BuildKit fetch the bodies of requests, which are archives of contexts, as if they were on the web. All other addresses are on the web. The
// zero bodies is ready for use.
type bodies struct {
	mu      sync.Mutex // guards waiting
	waiting map[string]io.ReadCloser
}

// add returns the address of a body, which can be fetched once, and what forgets it: after that nobody reads it, since a server goes on with its connection when
// the request has been answered.
func (b *bodies) add(from io.ReadCloser) (address string, forget func()) {
	host, body := bodyHost+identity.NewID(), &body{from: from}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.waiting == nil {
		b.waiting = map[string]io.ReadCloser{}
	}
	b.waiting[host] = body
	return "http://" + host, func() {
		b.take(host)
		body.forget()
	}
}

// body is what is read of a client's request, until it is forgotten.
type body struct {
	mu   sync.Mutex // held while it is read
	from io.ReadCloser
}

// Read implements io.Reader.
func (b *body) Read(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.from == nil {
		return 0, http.ErrBodyReadAfterClose
	}
	return b.from.Read(p)
}

// Close implements io.Closer.
func (b *body) Close() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.from == nil {
		return nil
	}
	return b.from.Close()
}

// forget returns when nobody reads, nor ever will. The client is sending what is waited for, or its connection ends.
func (b *body) forget() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.from = nil
}

func (b *bodies) take(host string) io.ReadCloser {
	b.mu.Lock()
	defer b.mu.Unlock()
	body := b.waiting[host]
	delete(b.waiting, host)
	return body
}

// RoundTrip implements http.RoundTripper.
func (b *bodies) RoundTrip(r *http.Request) (*http.Response, error) {
	if !strings.HasPrefix(r.URL.Host, bodyHost) {
		return http.DefaultTransport.RoundTrip(r)
	}
	body := b.take(r.URL.Host)
	if body == nil {
		return nil, errdefs.ErrNotFound.WithMessage("the build context was read already")
	}
	return &http.Response{Status: "200 OK", StatusCode: http.StatusOK, ProtoMajor: 1, ProtoMinor: 1, Header: http.Header{}, Body: body, ContentLength: -1, Request: r}, nil
}
