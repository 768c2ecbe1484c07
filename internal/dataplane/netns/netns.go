// Package netns makes, pins, enters and removes network namespaces, and reads and writes their sysctls. It writes the mount points of its
// directory (Dir) and /proc/sys/net; other packages reach the kernel inside a namespace through it.
package netns

import (
	"fmt"
	"runtime"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"github.com/shoal-dev/shoal/internal/fault"
)

// Namespace is an open network namespace. It lives at least until it is closed.
type Namespace struct {
	handle netns.NsHandle
	// node is the namespace that the daemon runs in, to which threads come back.
	node netns.NsHandle
}

// Current opens the namespace that the calling thread is in. Threads that enter namespaces opened from it come back to it.
func Current() (*Namespace, error) {
	handle, err := netns.Get()
	if err != nil {
		return nil, fmt.Errorf("open own namespace: %w", err)
	}
	return &Namespace{handle: handle, node: handle}, nil
}

// Open opens the namespace that is pinned at the path.
func (n *Namespace) Open(path string) (*Namespace, error) {
	handle, err := netns.GetFromPath(path)
	if err != nil {
		return nil, fmt.Errorf("open namespace %s: %w", path, err)
	}
	return &Namespace{handle: handle, node: n.node}, nil
}

// Close lets go of the namespace. What Open returned from it must not be used any more either if it is the node's.
func (n *Namespace) Close() error { return n.handle.Close() }

// FD is the namespace's file descriptor, for netlink messages and sockets that name a namespace. It belongs to n.
func (n *Namespace) FD() int { return int(n.handle) }

// Netlink opens an rtnetlink socket in the namespace. The caller closes it.
func (n *Namespace) Netlink() (*netlink.Handle, error) {
	h, err := netlink.NewHandleAt(n.handle, unix.NETLINK_ROUTE)
	if err != nil {
		return nil, fmt.Errorf("open netlink: %w", err)
	}
	return h, nil
}

// Run runs f on a thread inside the namespace and returns its error. A child process that f starts is in the namespace too.
func (n *Namespace) Run(f func() error) error {
	return onThread(n.node, func() error {
		if err := netns.Set(n.handle); err != nil {
			return fmt.Errorf("enter namespace: %w", err)
		}
		return f()
	})
}

// onThread runs f, whose panic is its error, which may change the namespace of its thread, on a thread of its own. The thread is used again if it can be brought back to
// the node's namespace; if not, it stays locked to its goroutine and so ends with it.
func onThread(node netns.NsHandle, f func() error) error {
	errs := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		err := fault.Contain(nil, "work in a network namespace", f)
		if netns.Set(node) == nil {
			runtime.UnlockOSThread()
		}
		errs <- err
	}()
	return <-errs
}
