package container

import (
	"path/filepath"

	"github.com/shoal-dev/shoal/internal/atomicfile"
	"github.com/shoal-dev/shoal/internal/logs"
)

// recordFile is the name of a container's record in its directory.
const recordFile = "container.json"

// save writes a container's record to its directory.
func save(info Info) error {
	return atomicfile.WriteJSON(filepath.Join(info.Dir, recordFile), info, 0o600)
}

// update changes a container's record, writes it to disk and wakes the watchers. A failed write is logged: the record in memory
// stays changed.
func (e *Engine) update(c *container, change func(*Info)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	change(&c.info)
	close(c.changed)
	c.changed = make(chan struct{})
	if c.removed {
		return
	}
	if err := save(c.info); err != nil {
		e.Log.Error("container record cannot be written; after a restart of the daemon the container has its previous state", "container", c.info.ID, "err", err)
	}
}

// register adds a container to the Engine by its record. Options of its log that cannot be read, which only a record of another version
// has, become Docker's defaults.
func (e *Engine) register(info Info) *container {
	opts, err := logs.ParseOptions(info.Spec.Log.Name, info.Spec.Log.Options)
	if err != nil {
		opts = logs.Options{Driver: "json-file", MaxFile: 1}
	}
	c := &container{info: info, changed: make(chan struct{})}
	c.log = logs.Open(filepath.Join(info.Dir, info.ID+"-json.log"), opts)
	c.info.LogPath = c.log.Path()
	for _, name := range info.volumes() {
		_ = e.Volumes.AddReference(name, info.ID) // a volume that is gone is missed when the container starts
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.byID[info.ID] = c
	if _, taken := e.names[info.Name]; !taken { // one that could be read only late may have lost its name to another
		e.names[info.Name] = info.ID
	}
	return c
}
