package server

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"

	"github.com/moby/term"
)

// flushWriter sends what is written at once.
type flushWriter struct {
	w http.ResponseWriter
}

// NewFlushWriter returns a writer of the answer's body that sends every piece at once, for answers that go on for long.
func NewFlushWriter(w http.ResponseWriter) io.Writer { return flushWriter{w} }

func (f flushWriter) Write(p []byte) (int, error) {
	n, err := f.w.Write(p)
	if err != nil {
		return n, err
	}
	return n, http.NewResponseController(f.w).Flush()
}

// Conn is a client's connection that has left HTTP, as those of attach and exec do.
type Conn struct {
	net.Conn
	in io.Reader // begins with what had been read ahead
}

// Hijack takes a client's connection over from the HTTP server, without an answer.
func Hijack(w http.ResponseWriter) (*Conn, error) {
	conn, buf, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return nil, fmt.Errorf("take over connection: %w", err)
	}
	return &Conn{Conn: conn, in: buf.Reader}, nil
}

// HijackStream takes a client's connection over for the streams of a process, and answers that it has left HTTP, in the way
// that the client asked for.
func HijackStream(w http.ResponseWriter, r *http.Request, tty bool) (*Conn, error) {
	conn, err := Hijack(w)
	if err != nil {
		return nil, err
	}
	// Clients that ask for no upgrade are older than the multiplexed type.
	head := "HTTP/1.1 200 OK\r\nContent-Type: " + RawStream + "\r\n\r\n"
	if strings.EqualFold(r.Header.Get("Upgrade"), "tcp") {
		head = "HTTP/1.1 101 UPGRADED\r\nContent-Type: " + StreamType(r, tty) + "\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n"
	}
	if _, err := io.WriteString(conn, head); err != nil {
		conn.Close()
		return nil, fmt.Errorf("take over connection: %w", err)
	}
	return conn, nil
}

// Read reads what the client sends, beginning with what the HTTP server had read ahead.
func (c *Conn) Read(p []byte) (int, error) { return c.in.Read(p) }

// CloseWrite tells the client that nothing more comes. A connection that cannot be closed by half stays open.
func (c *Conn) CloseWrite() error {
	if half, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return nil
}

// WriteError shows the user an error, where a status can no longer be sent.
func (c *Conn) WriteError(tty bool, err error) {
	if tty {
		_, _ = fmt.Fprintf(c, "%s\r\n", err) // a client that is gone misses nothing
		return
	}
	_, stderr := Multiplex(c)
	_, _ = fmt.Fprintf(stderr, "%s\n", err)
}

// DefaultDetachKeys are typed to leave a terminal where the request names no others.
const DefaultDetachKeys = "ctrl-p,ctrl-q"

// ParseDetachKeys reads a sequence of keys, such as "ctrl-p,ctrl-q" or "a", into the bytes that a terminal sends for them. Empty
// text is Docker's default sequence; unknown keys are refused with status 400.
func ParseDetachKeys(text string) ([]byte, error) {
	if text == "" {
		text = DefaultDetachKeys
	}
	keys, err := term.ToBytes(text)
	if err != nil {
		return nil, BadRequest("%v", err)
	}
	return keys, nil
}

// detachReader calls back when the detach keys have been read.
type detachReader struct {
	r      io.Reader
	detach func()
}

// NewDetachReader reads what a user types until the detach keys, which are not part of it; then it calls detach and ends with
// an error.
func NewDetachReader(r io.Reader, keys []byte, detach func()) io.Reader {
	return &detachReader{term.NewEscapeProxy(r, keys), detach}
}

func (d *detachReader) Read(p []byte) (int, error) {
	n, err := d.r.Read(p)
	if errors.Is(err, term.EscapeError{}) {
		d.detach()
	}
	return n, err
}
