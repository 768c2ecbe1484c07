package lab

import (
	"bytes"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// Holdings is what a node has of the machine's resources.
type Holdings struct {
	Processes, Cgroups, Mounts, Links int
	Descriptors                       int // of the daemon
	HeapKiB                           int // of the daemon, in use after a collection of garbage
	MemoryKiB                         int // of the daemon, resident, garbage included, without the files it has mapped
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
	h.HeapKiB, err = n.heap()
	return h, err
}

// heap is what is in use after a collection. What pools keep goes with the second.
func (n *Node) heap() (kib int, err error) {
	client := &http.Client{Transport: &http.Transport{DialContext: n.dialSocket, DisableKeepAlives: true}}
	for range 2 {
		resp, err := client.Get("http://docker/debug/pprof/heap?gc=1&debug=1")
		if err != nil {
			return 0, err
		}
		text, err := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		if err != nil {
			return 0, err
		}
		_, after, _ := strings.Cut(string(text), "# HeapAlloc =")
		if _, err := fmt.Sscan(after, &kib); err != nil {
			return 0, fmt.Errorf("read the daemon's heap: %w", err)
		}
	}
	return kib >> 10, nil
}
