package rtnl

import (
	"encoding/binary"
	"errors"
	"fmt"

	mdnetlink "github.com/mdlayher/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/shoal-dev/shoal/internal/dataplane/netns"
)

// Monitor listens to the kernel's notifications of what is removed in a namespace, so that long lists need not be compared as long as nothing is.
// While it is open, the namespace does not end.
type Monitor struct {
	conn    *mdnetlink.Conn
	removal uint16 // the message type that tells of one
}

// MonitorNeighbours listens for removed forwarding (FDB) and neighbour entries.
func MonitorNeighbours(ns *netns.Namespace) (*Monitor, error) {
	return openMonitor(ns, unix.RTM_DELNEIGH, unix.RTNLGRP_NEIGH)
}

// MonitorRoutes listens for removed routes of both families.
func MonitorRoutes(ns *netns.Namespace) (*Monitor, error) {
	return openMonitor(ns, unix.RTM_DELROUTE, unix.RTNLGRP_IPV4_ROUTE, unix.RTNLGRP_IPV6_ROUTE)
}

func openMonitor(ns *netns.Namespace, removal uint16, groups ...uint32) (*Monitor, error) {
	conn, err := mdnetlink.Dial(unix.NETLINK_ROUTE, &mdnetlink.Config{NetNS: ns.FD()})
	if err != nil {
		return nil, fmt.Errorf("listen for kernel notifications: %w", err)
	}
	for _, g := range groups {
		if err := conn.JoinGroup(g); err != nil {
			return nil, errors.Join(fmt.Errorf("listen for kernel notifications: %w", err), conn.Close())
		}
	}
	return &Monitor{conn, removal}, nil
}

// Removed tells whether anything was removed since the last call. It is true as well if that is not known: if the kernel had to drop
// notifications, or m is nil.
func (m *Monitor) Removed() bool {
	if m == nil {
		return true
	}
	raw, err := m.conn.SyscallConn()
	if err != nil {
		return true
	}
	removed := false
	buf := make([]byte, nl.RECEIVE_BUFFER_SIZE)
	err = raw.Control(func(fd uintptr) {
		for {
			size, _, err := unix.Recvfrom(int(fd), buf, unix.MSG_DONTWAIT)
			if errors.Is(err, unix.EAGAIN) {
				return
			}
			if err != nil && !errors.Is(err, unix.ENOBUFS) {
				removed = true
				return
			}
			removed = removed || err != nil || containsMessage(buf[:size], m.removal)
		}
	})
	return err != nil || removed
}

// containsMessage tells whether one of the netlink messages is of the type. It is true for what it cannot parse.
func containsMessage(messages []byte, kind uint16) bool {
	for len(messages) >= unix.NLMSG_HDRLEN {
		size := int(binary.NativeEndian.Uint32(messages))
		if binary.NativeEndian.Uint16(messages[4:]) == kind || size < unix.NLMSG_HDRLEN || size > len(messages) {
			return true
		}
		messages = messages[min(len(messages), (size+unix.NLMSG_ALIGNTO-1)&^(unix.NLMSG_ALIGNTO-1)):]
	}
	return false
}

// Close stops listening. It does nothing if m is nil.
func (m *Monitor) Close() error {
	if m == nil {
		return nil
	}
	return m.conn.Close()
}
