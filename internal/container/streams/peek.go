package streams

import (
	"errors"
	"io"
	"syscall"

	"golang.org/x/sys/unix"
)

// chunk is how much of a container's output is read at once.
const chunk = 32 << 10

// peeker reads a pipe without taking what it reads out of it, so that what is being written to the log when the daemon is killed is still in the pipe for the next one.
type peeker struct {
	r   io.Reader
	raw syscall.RawConn
}

// newPeeker returns nil if r is no pipe.
func newPeeker(r io.Reader) *peeker {
	conn, ok := r.(syscall.Conn)
	if !ok {
		return nil
	}
	raw, err := conn.SyscallConn()
	if err != nil {
		return nil
	}
	return &peeker{r: r, raw: raw}
}

// peek waits for data and copies the start of it. At the end of the data it returns io.EOF; errors.ErrUnsupported if r is no pipe.
func (p *peeker) peek(buf []byte) (n int, err error) {
	waitErr := p.raw.Read(func(fd uintptr) bool {
		n, err = tee(int(fd), buf)
		return !errors.Is(err, unix.EAGAIN)
	})
	switch {
	case waitErr != nil:
		return 0, waitErr
	case errors.Is(err, unix.EINVAL):
		return 0, errors.ErrUnsupported
	case err == nil && n == 0:
		return 0, io.EOF
	}
	return n, err
}

// drop takes out of the pipe what peek has put into buf.
func (p *peeker) drop(buf []byte) error {
	_, err := io.ReadFull(p.r, buf)
	return err
}

// tee copies what is in a pipe, by way of a pipe of its own.
func tee(fd int, buf []byte) (int, error) {
	var pipe [2]int
	if err := unix.Pipe2(pipe[:], unix.O_CLOEXEC); err != nil {
		return 0, err
	}
	defer func() {
		_ = unix.Close(pipe[0]) // nothing is lost with it
		_ = unix.Close(pipe[1])
	}()
	n, err := unix.Tee(fd, pipe[1], len(buf), unix.SPLICE_F_NONBLOCK)
	if err != nil || n == 0 {
		return 0, err
	}
	at := 0
	for at < int(n) {
		got, err := unix.Read(pipe[0], buf[at:n])
		if err != nil && !errors.Is(err, unix.EINTR) {
			return 0, err
		}
		at += max(got, 0)
	}
	return at, nil
}
