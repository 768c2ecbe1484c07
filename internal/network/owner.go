package network

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/vishvananda/netlink"

	"github.com/shoal-dev/shoal/internal/atomicfile"
	"github.com/shoal-dev/shoal/internal/dataplane/rtnl"
)

const (
	defaultExecRoot = "/run/shoal"
	// ownerSocket is an abstract socket, of which a network namespace has just one. Whoever has rtnl.DefaultOwner holds it.
	ownerSocket = "@shoal/owner"
)

// ownership is the name by which a daemon knows its links and its table among those of other daemons in the network namespace.
type ownership struct {
	owner string
	held  net.Listener // nil unless ownerSocket is held
}

// findOwner is the owner of what the daemon with an exec root makes in the thread's network namespace. It is chosen at the first start and kept as long as the
// exec root, that is until the machine restarts: the first daemon of the namespace gets the default, every other one a name of its own.
func findOwner(execRoot string) (ownership, error) {
	var o ownership
	dir := filepath.Join(execRoot, "network")
	file := filepath.Join(dir, "owner")
	before, err := os.ReadFile(file)
	if err == nil && isOwner(string(before)) {
		if o.owner = string(before); o.owner == rtnl.DefaultOwner {
			o.held, _ = net.Listen("unix", ownerSocket) // its predecessor may still hold it
		}
		return o, nil
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return o, fmt.Errorf("read owner of networks: %w", err)
	}
	_, err = os.Stat(dir)
	older := err == nil // a version that knew no owners was here
	o.held, err = net.Listen("unix", ownerSocket)
	if o.owner = rtnl.DefaultOwner; !older && execRoot != defaultExecRoot && (err != nil || anyLinkOf(rtnl.DefaultOwner)) {
		sum := sha256.Sum256([]byte(execRoot))
		o.owner = rtnl.DefaultOwner + "-" + hex.EncodeToString(sum[:4])
		o.close()
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return o, fmt.Errorf("make network directory: %w", err)
	}
	if err := atomicfile.Write(file, []byte(o.owner), 0o600); err != nil {
		return o, fmt.Errorf("keep owner of networks: %w", err)
	}
	return o, nil
}

func (o *ownership) close() {
	if o.held != nil {
		_ = o.held.Close()
	}
	o.held = nil
}

func isOwner(text string) bool {
	return text == rtnl.DefaultOwner || strings.HasPrefix(text, rtnl.DefaultOwner+"-") && len(text) < 20
}

// isFirst tells whether the owner is the one that a namespace's first daemon has.
func (o *ownership) isFirst() bool { return o.owner == rtnl.DefaultOwner }

// bridgeName is the name of the default bridge of an owner that finds docker0 taken by another.
func (o *ownership) bridgeName() string {
	return "docker" + strings.TrimPrefix(o.owner, rtnl.DefaultOwner)
}

// anyLinkOf tells whether the thread's network namespace has a link of the owner.
func anyLinkOf(owner string) bool {
	links, err := netlink.LinkList()
	return err == nil && slices.ContainsFunc(links, func(l netlink.Link) bool { return l.Attrs().Alias == owner })
}
