package netnstest

import (
	"bytes"
	"encoding/binary"
	"errors"
	"sync"
	"sync/atomic"
	"testing"

	"golang.org/x/sys/unix"
)

// Sniffer captures what passes on all interfaces of a namespace, and counts it.
type Sniffer struct {
	marker      []byte
	total, seen atomic.Int64
	stop        func()
}

// Total counts all packets.
func (s *Sniffer) Total() int64 { return s.total.Load() }

// Seen counts the packets that have the marker in them.
func (s *Sniffer) Seen() int64 { return s.seen.Load() }

// Stop ends the capture. Afterwards the counts include all packets that were there when it was called. It may be called again.
func (s *Sniffer) Stop() { s.stop() }

// Sniff captures in the namespace that at runs functions in, until the test ends. It looks for the marker in every packet.
func Sniff(t testing.TB, at func(func() error) error, marker string) *Sniffer {
	t.Helper()
	s := &Sniffer{marker: []byte(marker)}
	all := binary.NativeEndian.Uint16(binary.BigEndian.AppendUint16(nil, unix.ETH_P_ALL))
	fd := -1
	must(t, at(func() (err error) {
		if fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, int(all)); err != nil {
			return err
		}
		const buffer, tick = 32 << 20, 50_000
		return errors.Join(unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, buffer),
			unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Usec: tick}))
	}))
	var stopping atomic.Bool
	done := make(chan struct{})
	s.stop = sync.OnceFunc(func() {
		stopping.Store(true)
		<-done
		_ = unix.Close(fd)
	})
	go func() {
		defer close(done)
		const largest = 1 << 16
		for buf := make([]byte, largest); ; {
			last := stopping.Load() // then only what has been captured is read
			flags := 0
			if last {
				flags = unix.MSG_DONTWAIT
			}
			size, _, err := unix.Recvfrom(fd, buf, flags)
			if err != nil {
				if last && errors.Is(err, unix.EAGAIN) {
					return
				}
				continue
			}
			if bytes.Contains(buf[:size], s.marker) {
				s.seen.Add(1)
			}
			s.total.Add(1) // last: a test that has seen it grow knows that the packet was searched
		}
	}()
	t.Cleanup(s.stop)
	return s
}

// Do runs f inside the switch.
func (u *Underlay) Do(f func() error) error { return u.ns.Do(f) }
