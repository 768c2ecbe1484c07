package container

import (
	"context"
	"encoding/json"
	"fmt"
	"path/filepath"

	"github.com/shoal-dev/shoal/internal/atomicfile"
	"github.com/shoal-dev/shoal/internal/logs"
)

// recordFile is the name of a container's record in its directory.
const recordFile = "container.json"

// recordVersion is the schema version of the records. It grows when what a field means changes.
const recordVersion = 1

// update changes a container's record, wakes the watchers, and writes the record to disk before it returns. While the disk is at work the record can be
// read. What cannot be written stays changed in memory, and is written again later.
func (e *Engine) update(c *container, change func(*Info)) { _ = e.commit(c, change) }

// commit is update for what a user asks for: what is not on disk is not acknowledged.
func (e *Engine) commit(c *container, change func(*Info)) error {
	at := c.change(change)
	err := c.flush(at)
	if err != nil {
		e.Quarantine.Retry("record of container "+c.id, err, func(context.Context) error { return c.flush(at) })
		return fmt.Errorf("write record of container %s: %w", c.id, err)
	}
	return nil
}

// change changes the record in memory, wakes the watchers, and returns which change it is.
func (c *container) change(change func(*Info)) uint64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	change(&c.info)
	close(c.changed)
	c.changed = make(chan struct{})
	c.changes++
	return c.changes
}

// flush writes the record as it is now, unless the change is on disk already: who waits for another's write often needs none. A removed container has no
// record.
func (c *container) flush(change uint64) error {
	c.flushing.Lock()
	defer c.flushing.Unlock()
	if c.flushed >= change {
		return nil
	}
	encoded, dir, at, err := c.encode()
	if err != nil || dir == "" {
		return err
	}
	if err := saveRecord(dir, encoded, c.expendable); err != nil {
		return err
	}
	c.flushed = at
	return nil
}

// encode is the record's encoding, its directory, and the change that it is of. A removed container has no directory.
func (c *container) encode() (encoded []byte, dir string, at uint64, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.removed {
		return nil, "", 0, nil
	}
	encoded, err = json.Marshal(c.info)
	return encoded, c.info.Dir, c.changes, err
}

// saveRecord writes a container's record into its directory.
func saveRecord(dir string, encoded []byte, expendable bool) error {
	write := atomicfile.Write
	if expendable {
		write = atomicfile.WriteWhole
	}
	return atomicfile.WriteRecord[Info](write, filepath.Join(dir, recordFile), encoded, recordVersion, 0o600)
}

// register adds a container to the Engine by its record. Options of its log that cannot be read are the defaults for reading it.
func (e *Engine) register(info Info) *container {
	opts, _ := logs.ParseOptions(info.Spec.Log.Name, info.Spec.Log.Options) // an error fails the start
	c := &container{id: info.ID, expendable: info.Spec.Expendable, info: info, changed: make(chan struct{})}
	c.log = logs.Open(opts.Path(info.Dir, info.ID), opts, e.Room)
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
