// Package net measures what the ways to a task cost: over the overlay, through a virtual address, through the routing mesh. Each
// is set beside a bare pair of interfaces in the same run. It makes network namespaces of its own and leaves nothing.
package net

import (
	"errors"
	"fmt"
	"net/netip"
	"runtime"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// pin keeps the calling thread on one core. Client and server share it, so that a round trip costs what the path costs, not what it
// takes to wake another core.
func pin() error {
	var set unix.CPUSet
	set.Set(runtime.NumCPU() - 1)
	if err := unix.SchedSetaffinity(0, &set); err != nil {
		return fmt.Errorf("stay on one core: %w", err)
	}
	return nil
}

const request, reply = 1, 64

// serve answers each byte with 64, one connection at a time, with plain system calls.
func serve(b *testing.B, enter func(func() error) error, port int) {
	b.Helper()
	fd := -1
	err := enter(func() (err error) {
		if fd, err = unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0); err != nil {
			return err
		}
		return errors.Join(unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1), unix.Bind(fd, &unix.SockaddrInet4{Port: port}), unix.Listen(fd, 64))
	})
	if err != nil {
		b.Fatalf("listen: %v", err)
	}
	ended := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // the thread ends with the goroutine
		err := pin()
		for err == nil {
			err = answer(fd)
		}
		ended <- err
	}()
	b.Cleanup(func() {
		_ = unix.Shutdown(fd, unix.SHUT_RDWR) // wakes the thread that accepts
		<-ended                               //nolint:errcheck // ended by closing
		_ = unix.Close(fd)
	})
}

// answer serves one connection. It fails when the listener is shut down.
func answer(listener int) error {
	conn, _, err := unix.Accept(listener)
	if err != nil {
		return err
	}
	defer func() { _ = unix.Close(conn) }()
	if err := unix.SetsockoptInt(conn, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1); err != nil {
		return err
	}
	for buf := make([]byte, reply); ; {
		if n, err := unix.Read(conn, buf[:request]); err != nil || n == 0 {
			return nil //nolint:nilerr // the client resets the connection when it is done
		}
		if _, err := unix.Write(conn, buf); err != nil {
			return nil //nolint:nilerr // likewise
		}
	}
}

func dial(to netip.AddrPort) (int, error) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, err
	}
	err = errors.Join(unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Sec: 5}),
		unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1),
		unix.SetsockoptLinger(fd, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1}), // closed with a reset: no port lingers
		connect(fd, to))
	if err != nil {
		return -1, errors.Join(fmt.Errorf("connect to %s: %w", to, err), unix.Close(fd))
	}
	return fd, nil
}

// connect waits for the connection even if the runtime interrupts it.
func connect(fd int, to netip.AddrPort) error {
	err := unix.Connect(fd, &unix.SockaddrInet4{Addr: to.Addr().As4(), Port: int(to.Port())})
	for errors.Is(err, unix.EINTR) {
		ready := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLOUT}}
		if _, err = unix.Poll(ready, 5000); err == nil {
			_, err = unix.Getpeername(fd)
		}
	}
	return err
}

func ask(fd int, buf []byte) error {
	if _, err := unix.Write(fd, buf[:request]); err != nil {
		return err
	}
	for got := 0; got < reply; {
		n, err := unix.Read(fd, buf)
		if errors.Is(err, unix.EINTR) {
			continue // by the runtime, which stops threads now and then
		}
		if err != nil {
			return err
		}
		if n == 0 {
			return errors.New("closed by the server")
		}
		got += n
	}
	return nil
}

// connections is the median time of a new connection with one request.
func connections(to netip.AddrPort, count int) (time.Duration, error) {
	buf, took := make([]byte, reply), make([]time.Duration, 0, count)
	for range count {
		began := time.Now()
		fd, err := dial(to)
		if err == nil {
			err = errors.Join(ask(fd, buf), unix.Close(fd))
		}
		if err != nil {
			return 0, err
		}
		took = append(took, time.Since(began))
	}
	return median(took), nil
}

// roundTrips is the median time of a request on an open connection.
func roundTrips(to netip.AddrPort, count int) (time.Duration, error) {
	fd, err := dial(to)
	if err != nil {
		return 0, err
	}
	defer func() { _ = unix.Close(fd) }()
	buf, took := make([]byte, reply), make([]time.Duration, 0, count)
	for range count {
		began := time.Now()
		if err := ask(fd, buf); err != nil {
			return 0, err
		}
		took = append(took, time.Since(began))
	}
	return median(took), nil
}

func median(list []time.Duration) time.Duration {
	slices.Sort(list)
	return list[len(list)/2]
}
