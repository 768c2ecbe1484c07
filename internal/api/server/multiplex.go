package server

import (
	"encoding/binary"
	"io"
	"net/http"
	"sync"

	"github.com/shoal-dev/shoal/internal/api/version"
)

const (
	// RawStream is the content type of a terminal's output, which is one stream of bytes.
	RawStream = "application/vnd.docker.raw-stream"
	// MultiplexedStream is the content type of what Multiplex writes.
	MultiplexedStream = "application/vnd.docker.multiplexed-stream"
)

// StreamType is the content type of a container's output: raw if it has a terminal, multiplexed otherwise. Clients older than the multiplexed type get the
// same frames as raw.
func StreamType(r *http.Request, tty bool) string {
	if tty || version.Before(r.Context(), "1.42") {
		return RawStream
	}
	return MultiplexedStream
}

// Numbers of the streams in the header of a frame.
const (
	stdoutFrame = 1
	stderrFrame = 2
)

const frameHeaderSize = 8

// frameWriter writes one of several streams into one connection, each piece in a frame: the number of the stream, three zero
// bytes, the length of the piece as four bytes, and the piece. It is the counterpart of moby's stdcopy.StdCopy.
type frameWriter struct {
	mu     *sync.Mutex // guards w; shared by the streams
	w      io.Writer
	stream byte
}

// Multiplex returns the writers of standard output and standard error into w. They may be used at the same time; each frame
// is one Write of w.
func Multiplex(w io.Writer) (stdout, stderr io.Writer) {
	mu := &sync.Mutex{}
	return &frameWriter{mu, w, stdoutFrame}, &frameWriter{mu, w, stderrFrame}
}

// OutputWriters returns the writers of a container's output into w: a terminal has one stream, which both write, anything else
// two, which are multiplexed.
func OutputWriters(w io.Writer, tty bool) (stdout, stderr io.Writer) {
	if tty {
		return w, w
	}
	return Multiplex(w)
}

func (f *frameWriter) Write(p []byte) (int, error) {
	frame := make([]byte, frameHeaderSize, frameHeaderSize+len(p))
	frame[0] = f.stream
	binary.BigEndian.PutUint32(frame[4:], uint32(len(p)))
	f.mu.Lock()
	defer f.mu.Unlock()
	if _, err := f.w.Write(append(frame, p...)); err != nil {
		return 0, err
	}
	return len(p), nil
}
