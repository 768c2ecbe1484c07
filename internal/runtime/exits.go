package runtime

import (
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// tasksDir is the directory of containerd's state directory that has a bundle for each running container, by namespace.
const tasksDir = "io.containerd.runtime.v2.task"

// exitRecord is the exit.json that containerd's shim for runc leaves in its bundle when its container ends.
type exitRecord struct {
	Timestamp time.Time
	Pid       int
	Status    uint32
}

// exitRecordTimeout bounds the wait for a shim to write the exit record of a process that has just ended.
const exitRecordTimeout = 2 * time.Second

// readExits returns the exits that are recorded in the bundles under state, by the containers' IDs. Where a container's first process has
// ended but its shim still runs, as shimServes reports, it waits for the record, which the shim is about to write.
func readExits(state string, shimServes func(id string) bool) (map[string]Exit, error) {
	dir := filepath.Join(state, tasksDir, Namespace)
	bundles, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	exits := map[string]Exit{}
	for _, b := range bundles {
		bundle := filepath.Join(dir, b.Name())
		exit, ok := readExit(bundle)
		for limit := time.Now().Add(exitRecordTimeout); !ok && initExited(bundle) && shimServes(b.Name()) && time.Now().Before(limit); {
			const pause = 5 * time.Millisecond
			time.Sleep(pause)
			exit, ok = readExit(bundle)
		}
		if ok {
			exits[b.Name()] = exit
		}
	}
	return exits, nil
}

// readExit reads a bundle's exit record. ok is false while the container runs, and for a record that a crash has cut off.
func readExit(bundle string) (exit Exit, ok bool) {
	data, err := os.ReadFile(filepath.Join(bundle, "exit.json"))
	var r exitRecord
	if err != nil || json.Unmarshal(data, &r) != nil {
		return Exit{}, false
	}
	return Exit{Status: r.Status, At: r.Timestamp}, true
}

// initExited reports whether the first process of a bundle is gone.
func initExited(bundle string) bool {
	text, err := os.ReadFile(filepath.Join(bundle, "init.pid"))
	if err != nil {
		return false
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(text)))
	return err == nil && errors.Is(syscall.Kill(pid, 0), syscall.ESRCH)
}
