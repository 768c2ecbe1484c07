package dataplane

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// inNamespace runs do on a thread of its own inside the namespace. The thread ends with it if it cannot be brought back.
func inNamespace(home, ns netns.NsHandle, do func() error) error {
	errs := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		if err := netns.Set(ns); err != nil {
			runtime.UnlockOSThread()
			errs <- fmt.Errorf("enter namespace: %w", err)
			return
		}
		err := do()
		if netns.Set(home) == nil {
			runtime.UnlockOSThread()
		}
		errs <- err
	}()
	return <-errs
}

// create makes a namespace, brings its loopback up and pins it under the path. unshare leaves the thread in the new one.
func create(home netns.NsHandle, path string) error {
	if err := os.WriteFile(path, nil, 0o444); err != nil {
		return err
	}
	errs := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		err := func() error {
			if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
				return fmt.Errorf("unshare: %w", err)
			}
			if err := unix.Mount("/proc/thread-self/ns/net", path, "", unix.MS_BIND, ""); err != nil {
				return fmt.Errorf("pin: %w", err)
			}
			h, err := netlink.NewHandle(unix.NETLINK_ROUTE)
			if err != nil {
				return err
			}
			defer h.Close()
			return h.LinkSetUp(&netlink.Device{LinkAttrs: netlink.LinkAttrs{Name: "lo", Index: 1}})
		}()
		if netns.Set(home) == nil {
			runtime.UnlockOSThread()
		}
		errs <- err
	}()
	if err := <-errs; err != nil {
		_ = drop(path)
		return fmt.Errorf("create namespace %s: %w", filepath.Base(path), err)
	}
	return nil
}

// drop lets go of a namespace. Its interfaces go with it, in the background: deleting them one by one is far slower.
func drop(path string) error {
	if err := unix.Unmount(path, unix.MNT_DETACH); err != nil && !errors.Is(err, unix.EINVAL) && !errors.Is(err, unix.ENOENT) {
		return fmt.Errorf("unpin namespace %s: %w", filepath.Base(path), err)
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// pinned tells whether the path holds a namespace (and not merely the file that one was mounted on before a reboot).
func pinned(path string) bool {
	var st unix.Statfs_t
	return unix.Statfs(path, &st) == nil && st.Type == unix.NSFS_MAGIC
}

// sysctl writes a setting of the namespace that the calling thread is in. Slashes part the key.
func sysctl(key, value string) error {
	path := "/proc/sys/" + key
	if now, err := os.ReadFile(path); err == nil && strings.TrimSpace(string(now)) == value {
		return nil
	}
	return os.WriteFile(path, []byte(value), 0o644)
}
