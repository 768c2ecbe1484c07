package driver

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// connectTimeout bounds the wait for a collector that does not answer.
const connectTimeout = 10 * time.Second

// link is a connection that is made when it is needed, and anew after an error.
type link struct {
	network, address string
	tls              *tls.Config // nil for none
	writeTimeout     time.Duration
	conn             net.Conn // nil when there is none
}

// connect makes the connection if there is none.
func (l *link) connect(ctx context.Context) error {
	if l.conn != nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, connectTimeout)
	defer cancel()
	var err error
	if l.tls != nil {
		d := tls.Dialer{Config: l.tls}
		l.conn, err = d.DialContext(ctx, l.network, l.address)
	} else {
		var d net.Dialer
		l.conn, err = d.DialContext(ctx, l.network, l.address)
	}
	if err != nil {
		l.conn = nil
	}
	return err
}

// write sends data, for which it makes the connection, and then lets use go on with the connection, nil for nothing more. After an error the connection
// is closed. When ctx ends both end.
func (l *link) write(ctx context.Context, data []byte, use func(net.Conn) error) error {
	if l.conn != nil && ended(l.conn) {
		l.close()
	}
	if err := l.connect(ctx); err != nil {
		return err
	}
	conn := l.conn
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	if l.writeTimeout > 0 {
		_ = conn.SetWriteDeadline(time.Now().Add(l.writeTimeout)) // a connection that has ended says so when it is written to
	}
	_, err := conn.Write(data)
	if err == nil && use != nil {
		err = use(conn)
	}
	if err == nil {
		err = ctx.Err()
	}
	if err != nil {
		l.close()
	}
	return err
}

// ended reports whether the other side has ended a connection. The kernel would take another write, and lose it.
func ended(conn net.Conn) bool {
	if t, ok := conn.(*tls.Conn); ok {
		conn = t.NetConn()
	}
	if network := conn.RemoteAddr().Network(); network != "tcp" && network != "unix" {
		return false
	}
	sc, ok := conn.(syscall.Conn)
	if !ok {
		return false
	}
	raw, err := sc.SyscallConn()
	if err != nil {
		return true
	}
	over := false
	err = raw.Control(func(fd uintptr) {
		var b [1]byte
		n, _, err := unix.Recvfrom(int(fd), b[:], unix.MSG_PEEK|unix.MSG_DONTWAIT)
		over = n == 0 && err == nil || err != nil && !errors.Is(err, unix.EAGAIN) && !errors.Is(err, unix.EINTR)
	})
	return over || err != nil
}

// close ends the connection, if there is one.
func (l *link) close() {
	if l.conn != nil {
		_ = l.conn.Close() // what could be sent was sent
		l.conn = nil
	}
}
