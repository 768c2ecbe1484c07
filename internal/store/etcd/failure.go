package etcd

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"

	"go.uber.org/zap/zapcore"
	"golang.org/x/sys/unix"
)

// failure is the first reason why a member had to stop. It is the hook that zap calls after etcd has logged what etcd takes for the end of its
// process: instead of the process, the goroutine ends that cannot go on (docs/store.md).
type failure struct {
	failed chan struct{} // closed when err is set

	mu  sync.Mutex // guards err
	err error
}

func newFailure() *failure { return &failure{failed: make(chan struct{})} }

// OnWrite implements zapcore.CheckWriteHook for entries of the levels panic and fatal.
func (f *failure) OnWrite(entry *zapcore.CheckedEntry, fields []zapcore.Field) {
	err := errors.New(entry.Message)
	for _, field := range fields {
		if cause, ok := field.Interface.(error); ok && field.Type == zapcore.ErrorType {
			err = fmt.Errorf("%s: %w", entry.Message, cause)
		}
	}
	f.set(err)
	runtime.Goexit()
}

// set records the first reason.
func (f *failure) set(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.err == nil {
		f.err = err
		close(f.failed)
	}
}

// cause is the reason; nil while there is none.
func (f *failure) cause() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.err
}

// abandon takes from a member that cannot be closed everything through which it could still act: its files below dir, whose locks are released and
// whose descriptors then lead nowhere, and its listeners on a port. What is left of it waits for ever, and another can be started in its place.
func abandon(log *slog.Logger, dir string, port int) {
	if resolved, err := filepath.EvalSymlinks(dir); err == nil {
		dir = resolved
	}
	nowhere, err := unix.Open(os.DevNull, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		log.Error("a store member that cannot be closed keeps its files open; if it does not start again, restart the daemon", "err", err)
		return
	}
	defer func() { _ = unix.Close(nowhere) }()
	open, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		log.Error("a store member that cannot be closed keeps its files open; if it does not start again, restart the daemon", "err", err)
		return
	}
	for _, entry := range open {
		fd, err := strconv.Atoi(entry.Name())
		if err != nil {
			continue
		}
		target, err := os.Readlink(filepath.Join("/proc/self/fd", entry.Name()))
		switch {
		case err != nil:
		case strings.HasPrefix(target, dir+"/"):
			releaseFile(fd, nowhere)
		case strings.HasPrefix(target, "socket:") && listensOn(fd, port):
			_ = unix.Shutdown(fd, unix.SHUT_RDWR) // it stops listening
		}
	}
}

// releaseFile unlocks a file, which a mapping of it would otherwise keep locked, and makes its descriptor lead nowhere.
func releaseFile(fd, nowhere int) {
	_ = unix.Flock(fd, unix.LOCK_UN)
	_ = unix.FcntlFlock(uintptr(fd), unix.F_OFD_SETLK, &unix.Flock_t{Type: unix.F_UNLCK}) // #nosec G115 -- a file descriptor
	_ = unix.Dup3(nowhere, fd, unix.O_CLOEXEC)
}

func listensOn(fd, port int) bool {
	if listens, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ACCEPTCONN); err != nil || listens == 0 {
		return false
	}
	name, err := unix.Getsockname(fd)
	if err != nil {
		return false
	}
	switch at := name.(type) {
	case *unix.SockaddrInet4:
		return at.Port == port
	case *unix.SockaddrInet6:
		return at.Port == port
	default:
		return false
	}
}
