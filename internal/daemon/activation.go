package daemon

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// firstActivated is the first file descriptor that systemd passes: sd_listen_fds(3).
const firstActivated = 3

// activated is the sockets that systemd has opened for the daemon (-H fd://): all of them or, if which names one by its number or name, that one.
func (d *Daemon) activated(which string) ([]net.Listener, error) {
	sockets, err := d.takeActivated()
	if err != nil {
		return nil, err
	}
	if len(sockets) == 0 {
		return nil, errors.New("no sockets found via socket activation: make sure the service was started by systemd")
	}
	if which == "" || which == "*" {
		return sockets, nil
	}
	chosen := -1
	if n, err := strconv.Atoi(which); err == nil {
		chosen = n - firstActivated
	} else {
		for i, name := range strings.Split(os.Getenv("LISTEN_FDNAMES"), ":") {
			if name == which {
				chosen = i
			}
		}
	}
	for i, l := range sockets {
		if i != chosen {
			_ = l.Close()
		}
	}
	if chosen < 0 || chosen >= len(sockets) {
		return nil, fmt.Errorf("failed to listen on systemd activated socket: no such socket: %s", which)
	}
	return sockets[chosen : chosen+1], nil
}

// takeActivated takes over what was passed. The processes that the daemon starts are not told of it.
func (d *Daemon) takeActivated() (all []net.Listener, err error) {
	pid, _ := strconv.Atoi(os.Getenv("LISTEN_PID"))
	count, _ := strconv.Atoi(os.Getenv("LISTEN_FDS"))
	if pid != os.Getpid() {
		return nil, nil
	}
	for _, v := range []string{"LISTEN_PID", "LISTEN_FDS"} {
		err = errors.Join(err, os.Unsetenv(v))
	}
	for fd := firstActivated; fd < firstActivated+count; fd++ {
		unix.CloseOnExec(fd)
		file := os.NewFile(uintptr(fd), "socket "+strconv.Itoa(fd))
		l, listenErr := net.FileListener(file)
		if err = errors.Join(err, listenErr, file.Close()); listenErr != nil {
			continue
		}
		if l, err = d.secured(l); err != nil {
			return nil, err
		}
		all = append(all, l)
	}
	return all, err
}

// secured is a TCP socket with the TLS that the settings ask for; other sockets stay as they are.
func (d *Daemon) secured(l net.Listener) (net.Listener, error) {
	if l.Addr().Network() != "tcp" {
		return l, nil
	}
	if !d.cfg.TLS {
		d.log.Warn("the API is served without TLS: whoever reaches it is root on this host", "addr", l.Addr().String())
		return l, nil
	}
	config, err := d.tlsConfig()
	if err != nil {
		return nil, errors.Join(err, l.Close())
	}
	return tls.NewListener(l, config), nil
}
