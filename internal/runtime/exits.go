package runtime

import (
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"time"
)

const tasksDir = "io.containerd.runtime.v2.task"

// exitRecord is the exit.json that a shim leaves in its bundle when its container ends.
type exitRecord struct {
	Timestamp time.Time
	Pid       int
	Status    uint32
}

// readExits returns the exit records in the bundles under state, by container.
func readExits(state string) (map[string]Exit, error) {
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
		data, err := os.ReadFile(filepath.Join(dir, b.Name(), "exit.json"))
		if err != nil {
			continue // still running, or never started
		}
		var r exitRecord
		if err := json.Unmarshal(data, &r); err != nil {
			continue // cut short by a crash: the container counts as lost
		}
		exits[b.Name()] = Exit{Status: r.Status, At: r.Timestamp}
	}
	return exits, nil
}
