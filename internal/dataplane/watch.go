package dataplane

import (
	"encoding/binary"
	"errors"
	"fmt"

	mdnetlink "github.com/mdlayher/netlink"
	"github.com/vishvananda/netlink/nl"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// watch collects the kernel's word of what is removed in a namespace, so that long lists need not be compared as long as nothing is.
type watch struct {
	conn    *mdnetlink.Conn
	removal uint16 // the message that tells of one
}

// watchNeighbours and watchRoutes tell of forwarding and neighbour entries, and of routes. The watch keeps the namespace from ending.
func watchNeighbours(ns netns.NsHandle) (*watch, error) {
	return openWatch(ns, unix.RTM_DELNEIGH, unix.RTNLGRP_NEIGH)
}

func watchRoutes(ns netns.NsHandle) (*watch, error) {
	return openWatch(ns, unix.RTM_DELROUTE, unix.RTNLGRP_IPV4_ROUTE, unix.RTNLGRP_IPV6_ROUTE)
}

func openWatch(ns netns.NsHandle, removal uint16, groups ...uint32) (*watch, error) {
	conn, err := mdnetlink.Dial(unix.NETLINK_ROUTE, &mdnetlink.Config{NetNS: int(ns)})
	if err != nil {
		return nil, fmt.Errorf("watch the kernel: %w", err)
	}
	for _, g := range groups {
		if err := conn.JoinGroup(g); err != nil {
			return nil, errors.Join(fmt.Errorf("watch the kernel: %w", err), conn.Close())
		}
	}
	return &watch{conn, removal}, nil
}

// quiet tells that nothing was removed since the last call. If there was more than the kernel could tell, something may have been.
func (w *watch) quiet() bool {
	raw, err := w.conn.SyscallConn()
	if err != nil {
		return false
	}
	quiet := true
	buf := make([]byte, nl.RECEIVE_BUFFER_SIZE)
	err = raw.Control(func(fd uintptr) {
		for {
			size, _, err := unix.Recvfrom(int(fd), buf, unix.MSG_DONTWAIT)
			if errors.Is(err, unix.EAGAIN) {
				return
			}
			if err != nil && !errors.Is(err, unix.ENOBUFS) {
				quiet = false
				return
			}
			quiet = quiet && err == nil && !has(buf[:size], w.removal)
		}
	})
	return err == nil && quiet
}

// has tells whether one of the netlink messages is of the kind.
func has(messages []byte, kind uint16) bool {
	for len(messages) >= unix.NLMSG_HDRLEN {
		size := int(binary.NativeEndian.Uint32(messages))
		if binary.NativeEndian.Uint16(messages[4:]) == kind {
			return true
		}
		if size < unix.NLMSG_HDRLEN || size > len(messages) {
			return true // not understood
		}
		messages = messages[min(len(messages), (size+unix.NLMSG_ALIGNTO-1)&^(unix.NLMSG_ALIGNTO-1)):]
	}
	return false
}

func (w *watch) close() error { return w.conn.Close() }

// routeWatch is the key of the node's own among Plane.watches; the others' are the IDs of overlays.
const routeWatch = ""

// disturbed tells whether what the watch of that key is for may have changed. It opens the watch if there is none.
func (p *Plane) disturbed(key string, open func() (*watch, error)) bool {
	w := p.watches[key]
	if w != nil {
		return !w.quiet()
	}
	w, err := open()
	if err == nil {
		p.watches[key] = w
	}
	return true
}

func (p *Plane) closeWatch(key string) error {
	w := p.watches[key]
	delete(p.watches, key)
	if w == nil {
		return nil
	}
	return w.close()
}
