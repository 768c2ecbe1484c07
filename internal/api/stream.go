package api

import (
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
)

const (
	rawStream         = "application/vnd.docker.raw-stream"
	multiplexedStream = "application/vnd.docker.multiplexed-stream"
)

// frames writes one of two streams into one connection, each piece behind a header of eight bytes: stream number,
// three zeros, length.
type frames struct {
	mu *sync.Mutex // shared by both streams: guards w
	w  io.Writer
	n  byte
}

// framed returns the writers of standard output and standard error.
func framed(w io.Writer) (stdout, stderr io.Writer) {
	mu := &sync.Mutex{}
	return &frames{mu, w, 1}, &frames{mu, w, 2}
}

func (f *frames) Write(p []byte) (int, error) {
	buf := make([]byte, 8, 8+len(p))
	buf[0] = f.n
	binary.BigEndian.PutUint32(buf[4:], uint32(len(p)))
	f.mu.Lock()
	defer f.mu.Unlock()
	if _, err := f.w.Write(append(buf, p...)); err != nil {
		return 0, err
	}
	return len(p), nil
}

// flushing flushes after every write.
type flushing struct {
	w http.ResponseWriter
}

func (f flushing) Write(p []byte) (int, error) {
	n, err := f.w.Write(p)
	if err != nil {
		return n, err
	}
	return n, http.NewResponseController(f.w).Flush()
}

// hijacked is a connection that has left HTTP.
type hijacked struct {
	net.Conn
	in io.Reader
}

// Read reads what the client sends, also what had been read ahead of its leaving.
func (h *hijacked) Read(p []byte) (int, error) { return h.in.Read(p) }

// CloseWrite tells the client that nothing more comes.
func (h *hijacked) CloseWrite() error {
	if half, ok := h.Conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return nil
}

// hijack takes the connection over, as attach and exec do.
func hijack(w http.ResponseWriter, r *http.Request, tty bool) (*hijacked, error) {
	conn, buf, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return nil, fmt.Errorf("take over connection: %w", err)
	}
	kind := multiplexedStream
	if tty {
		kind = rawStream
	}
	head := "HTTP/1.1 200 OK\r\nContent-Type: " + rawStream + "\r\n\r\n"
	if strings.EqualFold(r.Header.Get("Upgrade"), "tcp") {
		head = "HTTP/1.1 101 UPGRADED\r\nContent-Type: " + kind + "\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n"
	}
	if _, err := io.WriteString(conn, head); err != nil {
		conn.Close()
		return nil, fmt.Errorf("take over connection: %w", err)
	}
	return &hijacked{Conn: conn, in: buf.Reader}, nil
}

// say reports an error on a connection that has left HTTP.
func (h *hijacked) say(tty bool, err error) {
	if tty {
		_, _ = fmt.Fprintf(h, "%s\r\n", err) // a client that is gone misses nothing
		return
	}
	_, errOut := framed(h)
	_, _ = fmt.Fprintf(errOut, "%s\n", err)
}

// detachReader ends when the detach keys are typed (ctrl-p ctrl-q), and holds back what may be their beginning.
type detachReader struct {
	r    io.Reader
	keys []byte
	seen int
}

var errDetached = fmt.Errorf("read escape sequence")

func (d *detachReader) Read(p []byte) (int, error) {
	buf := make([]byte, max(1, len(p)-len(d.keys)))
	n, err := d.r.Read(buf)
	out := 0
	for _, b := range buf[:n] {
		if b == d.keys[d.seen] {
			if d.seen++; d.seen == len(d.keys) {
				return out, errDetached
			}
			continue
		}
		out += copy(p[out:], d.keys[:d.seen])
		d.seen = 0
		out += copy(p[out:], []byte{b})
	}
	return out, err
}

// detachKeys reads a sequence such as "ctrl-p,ctrl-q" or "a".
func detachKeys(text string) ([]byte, error) {
	if text == "" {
		return []byte{16, 17}, nil
	}
	var keys []byte
	for key := range strings.SplitSeq(text, ",") {
		letter, ctrl := strings.CutPrefix(key, "ctrl-")
		if len(letter) != 1 {
			return nil, fail(http.StatusBadRequest, "Unknown character: '%s'", key)
		}
		if ctrl {
			at := strings.IndexByte("@abcdefghijklmnopqrstuvwxyz[\\]^_", letter[0])
			if at < 0 {
				return nil, fail(http.StatusBadRequest, "Unknown character: '%s'", key)
			}
			keys = append(keys, byte(at))
			continue
		}
		keys = append(keys, letter[0])
	}
	return keys, nil
}
