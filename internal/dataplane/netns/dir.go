package netns

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Dir is a directory in which namespaces are pinned: each is mounted on a file of its name. All that is in it belongs to its owner.
type Dir struct {
	path    string
	node    *Namespace
	claimed *os.File // nil if it could not be locked
}

// OpenDir returns the directory, which it makes if there is none. The caller closes it. node is the namespace that the daemon runs in.
func OpenDir(path string, node *Namespace) (*Dir, error) {
	if err := os.MkdirAll(path, 0o711); err != nil {
		return nil, fmt.Errorf("make namespace directory: %w", err)
	}
	d := &Dir{path: path, node: node}
	d.claim()
	return d, nil
}

// Path is where the namespace of that name is or would be pinned.
func (d *Dir) Path(name string) string { return filepath.Join(d.path, name) }

// Names lists what is in the directory, including files that a namespace was pinned on before the machine restarted.
func (d *Dir) Names() ([]string, error) {
	entries, err := os.ReadDir(d.path)
	if err != nil {
		return nil, fmt.Errorf("list namespaces: %w", err)
	}
	names := make([]string, len(entries))
	for i, e := range entries {
		names[i] = e.Name()
	}
	return names, nil
}

// Exists tells whether a namespace of that name is pinned. The file alone does not count: it is still there after the machine restarted, when the
// namespace is not.
func (d *Dir) Exists(name string) bool {
	var st unix.Statfs_t
	return unix.Statfs(d.Path(name), &st) == nil && st.Type == unix.NSFS_MAGIC
}

// Open opens the namespace of that name. The caller closes it.
func (d *Dir) Open(name string) (*Namespace, error) { return d.node.Open(d.Path(name)) }

// Netlink runs f with the namespace of that name and an rtnetlink socket in it, both open until f returns.
func (d *Dir) Netlink(name string, f func(*netlink.Handle, *Namespace) error) error {
	ns, err := d.Open(name)
	if err != nil {
		return err
	}
	defer func() { _ = ns.Close() }()
	h, err := ns.Netlink()
	if err != nil {
		return err
	}
	defer h.Close()
	return f(h, ns)
}

// Create makes a namespace, brings its loopback up and pins it.
func (d *Dir) Create(name string) error {
	path := d.Path(name)
	if err := os.WriteFile(path, nil, 0o444); err != nil {
		return err
	}
	err := onThread(d.node.handle, func() error {
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil { // leaves the thread in the new namespace
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
	})
	if err != nil {
		return errors.Join(fmt.Errorf("create namespace %s: %w", name, err), d.Remove(name))
	}
	return nil
}

// Remove unpins a namespace; it is no error if there is none. Its interfaces go with it, in the background: to delete them one by one is far
// slower.
func (d *Dir) Remove(name string) error {
	path := d.Path(name)
	if err := unix.Unmount(path, unix.MNT_DETACH); err != nil && !errors.Is(err, unix.EINVAL) && !errors.Is(err, unix.ENOENT) {
		return fmt.Errorf("unpin namespace %s: %w", name, err)
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}
