package netns

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// PinHidden pins here what was pinned in this directory where the daemon does not see it any more: in another mount namespace, which the processes that it has
// left behind keep (PrivateMounts=), or under a file system that was mounted over the directory since. It returns the names. A namespace counts only if it
// belongs to the daemon's user namespace: anybody can have mounts of any name in one of his own.
func (d *Dir) PinHidden() (names []string, err error) {
	dir, err := filepath.EvalSymlinks(d.path)
	if err != nil {
		return nil, fmt.Errorf("look for hidden namespaces: %w", err)
	}
	found := inOtherMountNamespaces(dir)
	if covered(dir, d) {
		below, err := underCover(dir)
		if err != nil {
			return nil, fmt.Errorf("look for hidden namespaces: %w", err)
		}
		found = append(found, below...)
	}
	var errs []error
	for _, pin := range found {
		ns := &Namespace{handle: pin.handle, node: d.node.handle}
		if !d.Exists(pin.name) && ns.belongsHere() {
			if err := d.Pin(pin.name, ns); err != nil {
				errs = append(errs, err)
			} else {
				names = append(names, pin.name)
			}
		}
		_ = ns.Close()
	}
	return names, errors.Join(errs...)
}

// Pin pins an open namespace under a name, in place of the one that is pinned under it.
func (d *Dir) Pin(name string, ns *Namespace) error {
	if err := d.Remove(name); err != nil {
		return err
	}
	path := d.Path(name)
	if err := os.WriteFile(path, nil, 0o444); err != nil {
		return err
	}
	if err := unix.Mount(fmt.Sprintf("/proc/self/fd/%d", ns.FD()), path, "", unix.MS_BIND, ""); err != nil {
		return errors.Join(fmt.Errorf("pin namespace %s: %w", name, err), os.Remove(path))
	}
	return nil
}

// hiddenPin is a namespace, open, and the name that it is pinned under somewhere.
type hiddenPin struct {
	name   string
	handle netns.NsHandle
}

// pinsBelow opens what is pinned in the directory dir of a mount namespace, given its root.
func pinsBelow(root int, dir string) (found []hiddenPin) {
	how := &unix.OpenHow{Flags: unix.O_RDONLY | unix.O_DIRECTORY | unix.O_CLOEXEC, Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_SYMLINKS}
	fd, err := unix.Openat2(root, dir, how)
	if err != nil {
		return nil // it has no such directory, as most have not
	}
	listed := os.NewFile(uintptr(fd), dir) // #nosec G115 -- a file descriptor
	defer func() { _ = listed.Close() }()
	names, _ := listed.Readdirnames(-1)
	for _, name := range names {
		if pin, ok := openPin(fd, name); ok {
			found = append(found, hiddenPin{name, pin})
		}
	}
	return found
}

// openPin opens the network namespace that is pinned in a directory under a name. It opens nothing else that may be there.
func openPin(dir int, name string) (pin netns.NsHandle, ok bool) {
	how := &unix.OpenHow{Flags: unix.O_PATH | unix.O_CLOEXEC, Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS}
	at, err := unix.Openat2(dir, name, how)
	if err != nil {
		return 0, false
	}
	return openNamespace(at)
}

// openNamespace opens what at, which it closes, was opened for (O_PATH), if that is a network namespace.
func openNamespace(at int) (ns netns.NsHandle, ok bool) {
	defer func() { _ = unix.Close(at) }()
	var fs unix.Statfs_t
	if unix.Fstatfs(at, &fs) != nil || fs.Type != unix.NSFS_MAGIC {
		return 0, false
	}
	fd, err := unix.Open(fmt.Sprintf("/proc/self/fd/%d", at), unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return 0, false
	}
	if kind, err := unix.IoctlRetInt(fd, unix.NS_GET_NSTYPE); err != nil || kind != unix.CLONE_NEWNET {
		_ = unix.Close(fd)
		return 0, false
	}
	return netns.NsHandle(fd), true
}

// inOtherMountNamespaces opens what is pinned in the directory in the mount namespaces of other processes.
func inOtherMountNamespaces(dir string) (found []hiddenPin) {
	own, _ := os.Readlink("/proc/self/ns/mnt")
	seen := []string{own}
	for process := range processes() {
		mounts, err := os.Readlink(process + "/ns/mnt")
		if err != nil || slices.Contains(seen, mounts) {
			continue
		}
		seen = append(seen, mounts)
		root, err := unix.Open(process+"/root", unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		if err != nil {
			continue
		}
		found = append(found, pinsBelow(root, dir)...)
		_ = unix.Close(root)
	}
	return found
}

// processes yields the directories of all processes in /proc.
func processes() func(func(string) bool) {
	return func(yield func(string) bool) {
		entries, _ := os.ReadDir("/proc")
		for _, e := range entries {
			if _, err := strconv.Atoi(e.Name()); err == nil && !yield("/proc/"+e.Name()) {
				return
			}
		}
	}
}

// covered tells whether the daemon's mount namespace has namespaces pinned in the directory that cannot be seen there.
func covered(dir string, d *Dir) bool {
	for pin := range pins {
		if filepath.Dir(pin) == dir && !d.Exists(filepath.Base(pin)) {
			return true
		}
	}
	return false
}

// pins yields where namespaces are pinned that this process sees.
func pins(yield func(path string) bool) {
	mounts, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		return
	}
	defer func() { _ = mounts.Close() }()
	for lines := bufio.NewScanner(mounts); lines.Scan(); {
		const mountPoint = 4 // see proc_pid_mountinfo(5)
		fields := strings.Fields(lines.Text())
		if len(fields) > mountPoint && slices.Contains(fields, "nsfs") && !yield(fields[mountPoint]) {
			return
		}
	}
}

// underCover opens what is pinned in the directory under file systems that were mounted over it or the one above, which it takes away in a mount namespace that
// nobody else has.
func underCover(dir string) (found []hiddenPin, err error) {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // for good: the thread ends with the goroutine, and the mount namespace with it
		done <- func() error {
			if err := unix.Unshare(unix.CLONE_NEWNS); err != nil {
				return fmt.Errorf("unshare mounts: %w", err)
			}
			if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
				return fmt.Errorf("make mounts private: %w", err)
			}
			root, err := unix.Open("/", unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
			if err != nil {
				return err
			}
			defer func() { _ = unix.Close(root) }()
			for _, cover := range []string{dir, filepath.Dir(dir)} {
				for unix.Unmount(cover, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW) == nil {
					found = append(found, pinsBelow(root, dir)...)
				}
			}
			return nil
		}()
	}()
	err = <-done
	return found, err
}

// belongsHere tells whether the namespace belongs to the user namespace of the daemon, and is not the one that the daemon runs in.
func (n *Namespace) belongsHere() bool {
	owner, err := unix.IoctlRetInt(n.FD(), unix.NS_GET_USERNS)
	if err != nil {
		return false
	}
	defer func() { _ = unix.Close(owner) }()
	var theirs, ours unix.Stat_t
	if unix.Fstat(owner, &theirs) != nil || unix.Stat("/proc/self/ns/user", &ours) != nil || theirs.Ino != ours.Ino || theirs.Dev != ours.Dev {
		return false
	}
	return !n.handle.Equal(n.node)
}

// IsNode tells whether an ID is that of the node's namespace in the namespace of h.
func (d *Dir) IsNode(h *netlink.Handle, id int) bool {
	node, err := h.GetNetNsIdByFd(d.node.FD())
	return err == nil && node >= 0 && id == node
}

// Search calls found with every namespace that a process is in or has open, until it returns true, and tells whether it did. Those of other user namespaces and
// the node's own are left out. The namespace is open for the length of the call.
func (d *Dir) Search(found func(*Namespace) bool) bool {
	seen := map[string]bool{}
	for process := range processes() {
		for _, path := range d.candidates(process) {
			at, err := unix.Open(path, unix.O_PATH|unix.O_CLOEXEC, 0)
			if err != nil {
				continue
			}
			handle, ok := openNamespace(at)
			if !ok {
				continue
			}
			ns := &Namespace{handle: handle, node: d.node.handle}
			if id := handle.UniqueId(); !seen[id] {
				seen[id] = true
				ok = ns.belongsHere() && found(ns)
			} else {
				ok = false
			}
			_ = ns.Close()
			if ok {
				return true
			}
		}
	}
	return false
}

// candidates is what may lead to a namespace of a process, given its directory in /proc: not files of disks that may not answer.
func (d *Dir) candidates(process string) []string {
	paths := []string{process + "/ns/net"}
	open, _ := os.ReadDir(process + "/fd")
	for _, fd := range open {
		path := process + "/fd/" + fd.Name()
		target, err := os.Readlink(path)
		if err == nil && (strings.HasPrefix(target, "net:[") || target == "/" || filepath.Dir(target) == d.path) { // "/": its mount is gone
			paths = append(paths, path)
		}
	}
	return paths
}
