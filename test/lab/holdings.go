package lab

import (
	"bytes"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// Holdings is what a node has of the machine's resources.
type Holdings struct {
	Processes, Cgroups, Mounts, Links int
	Descriptors                       int // of the daemon
	MemoryKiB                         int // of the daemon, without the files it has mapped: of the store's database the kernel keeps what it has room for
	MappedKiB                         int // of those files, what is in memory
}

// Holdings counts what the node has now.
func (n *Node) Holdings() (h Holdings, err error) {
	h.Processes = len(n.ownProcesses())
	for _, g := range n.cgroups() {
		if err := filepath.WalkDir(g, func(_ string, d fs.DirEntry, err error) error {
			if err == nil && d.IsDir() {
				h.Cgroups++
			}
			return nil //nolint:nilerr // a group that vanishes while it is read is none
		}); err != nil {
			return h, err
		}
	}
	proc := filepath.Join("/proc", strconv.Itoa(n.PID()))
	mounts, err := os.ReadFile(filepath.Join(proc, "mounts"))
	if err != nil {
		return h, err
	}
	h.Mounts = bytes.Count(mounts, []byte(" "+n.dir()+"/"))
	links, err := os.ReadFile(filepath.Join(proc, "net", "dev"))
	if err != nil {
		return h, err
	}
	const header = 2
	h.Links = bytes.Count(links, []byte("\n")) - header
	open, err := os.ReadDir(filepath.Join(proc, "fd"))
	if err != nil {
		return h, err
	}
	h.Descriptors = len(open)
	status, err := os.ReadFile(filepath.Join(proc, "status"))
	if err != nil {
		return h, err
	}
	for field, value := range map[string]*int{"RssAnon:": &h.MemoryKiB, "RssFile:": &h.MappedKiB} {
		_, after, _ := strings.Cut(string(status), field)
		if _, err := fmt.Sscan(after, value); err != nil {
			return h, fmt.Errorf("read the daemon's memory (%s): %w", field, err)
		}
	}
	return h, nil
}
