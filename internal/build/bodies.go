package build

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"errors"
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
	return &http.Response{Status: "200 OK", StatusCode: http.StatusOK, ProtoMajor: 1, ProtoMinor: 1, Header: http.Header{}, Body: asArchive(body), ContentLength: -1, Request: r}, nil
}

// blockSize is the size of the blocks that an archive consists of, and pax the kinds of those that describe the next one (POSIX.1-2001).
const (
	blockSize, kindAt, pax = 512, 156, "xg"
	magicAt, magic         = 257, "ustar"
)

// asArchive is a body that BuildKit takes for an archive and not for a Dockerfile. It reads two blocks to tell, and where these are all about a file that comes
// after them, as in archives of Python's, it sees none; what is compressed it takes for an archive. So it gets them in gzip's format, but not compressed.
func asArchive(body io.ReadCloser) io.ReadCloser {
	from := bufio.NewReaderSize(body, 64<<10)
	head, _ := from.Peek(blockSize) // too short for an archive, if there is an error
	if len(head) < blockSize || !strings.ContainsRune(pax, rune(head[kindAt])) || string(head[magicAt:magicAt+len(magic)]) != magic {
		return &bodyReader{from, body}
	}
	z := &stored{from: from}
	z.zip, _ = gzip.NewWriterLevel(&z.out, gzip.NoCompression) // it fails for unknown levels only
	return &bodyReader{z, body}
}

type bodyReader struct {
	io.Reader
	io.Closer
}

// stored gives what it reads in gzip's format, uncompressed.
type stored struct {
	from io.Reader
	zip  *gzip.Writer
	out  bytes.Buffer // written by zip and not read yet
	err  error        // of from
}

// Read implements io.Reader.
func (s *stored) Read(p []byte) (int, error) {
	for s.out.Len() == 0 && s.err == nil {
		if _, s.err = io.CopyN(s.zip, s.from, 64<<10); errors.Is(s.err, io.EOF) {
			_ = s.zip.Close() // it writes into memory
		}
	}
	if s.out.Len() == 0 {
		return 0, s.err
	}
	return s.out.Read(p)
}
