package netns

import (
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// claim locks the directory, as long as this process lives, so that others see that the directory has an owner. Without the lock the directory works as well.
func (d *Dir) claim() { d.claimed, _ = lockDir(d.path) }

// lockDir opens a directory and locks it, unless somebody else has. The lock ends with the file.
func lockDir(path string) (*os.File, bool) {
	f, err := os.Open(path) // #nosec G304 -- a directory of pins
	if err != nil {
		return nil, false
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil { // #nosec G115 -- a file descriptor
		_ = f.Close()
		return nil, false
	}
	return f, true
}

// Close gives the directory up; what is pinned in it stays.
func (d *Dir) Close() error {
	if d.claimed == nil {
		return nil
	}
	return d.claimed.Close()
}

// SearchAbandoned calls found with every namespace that is pinned, where this process sees it, in the directory of a daemon that is gone, until it returns true, and tells
// whether it did. The namespace is open for the length of the call.
func (d *Dir) SearchAbandoned(found func(pin string, ns *Namespace) bool) bool {
	for pin := range pins {
		if filepath.Dir(pin) != d.path && d.tryAbandoned(pin, found) {
			return true
		}
	}
	return false
}

func (d *Dir) tryAbandoned(pin string, found func(string, *Namespace) bool) bool {
	lock, ok := lockDir(filepath.Dir(pin))
	if !ok {
		return false // its daemon lives
	}
	defer func() { _ = lock.Close() }()
	ns, err := d.node.Open(pin)
	if err != nil {
		return false
	}
	defer func() { _ = ns.Close() }()
	return ns.belongsHere() && found(pin, ns)
}
