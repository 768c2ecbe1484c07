package network

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/shoal-dev/shoal/internal/shoal"
)

// What must outlive the daemon, but not the machine: sandboxes, and the table by which they reach the rest of the cluster. With
// them a restarted daemon finds nothing to change.

// journal is the table on disk: as it was at some time, and after it the deltas since, one a line.
type journal struct {
	path        string
	size, added int64 // of the whole table, and of the deltas
}

// smallest is the size of deltas below which no table is written anew.
const smallest = 64 << 10

// remember writes down a delta that is in force, or the whole table if the deltas have become longer than that.
func (n *Networks) remember(delta *shoal.TableDelta) error {
	n.journalMu.Lock()
	defer n.journalMu.Unlock()
	j := &n.journal
	err := j.add(delta)
	if err == nil && j.added > max(j.size, smallest) {
		err = j.write(n.Table())
	}
	if err != nil {
		return fmt.Errorf("remember table: %w", err)
	}
	return nil
}

func (j *journal) add(delta *shoal.TableDelta) error {
	line, err := json.Marshal(delta)
	if err != nil {
		return err
	}
	f, err := os.OpenFile(j.path, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	size, err := f.Write(append(line, '\n'))
	j.added += int64(size)
	return errors.Join(err, f.Close())
}

// write puts the whole table, as a full delta, in place of all.
func (j *journal) write(table shoal.Table) error {
	whole := shoal.Difference(shoal.Table{}, table)
	whole.Full = true
	next := *j
	next.path, next.added = j.path+".new", 0
	if err := os.RemoveAll(next.path); err != nil {
		return err
	}
	if err := next.add(&whole); err != nil {
		return err
	}
	j.size, j.added = next.added, 0
	return os.Rename(next.path, j.path)
}

// read is the table as it was last written down. It ends where something was not written to its end.
func (j *journal) read() (table shoal.Table, err error) {
	text, err := os.ReadFile(j.path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return table, err
	}
	for line := range bytes.Lines(text) {
		var delta shoal.TableDelta
		if json.Unmarshal(line, &delta) != nil {
			break
		}
		delta.ApplyTo(&table)
	}
	return table, nil
}

func (n *Networks) loadTable() error {
	table, err := n.journal.read()
	if err == nil {
		err = n.journal.write(table)
	}
	if err != nil {
		return fmt.Errorf("take up table: %w", err)
	}
	delta := shoal.Difference(n.table, table)
	n.update(&delta)
	return nil
}

func (n *Networks) save(b *box) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if err := writeJSON(filepath.Join(n.fileDir(b.Spec.ContainerID), "sandbox.json"), b); err != nil {
		return fmt.Errorf("remember sandbox: %w", err)
	}
	return nil
}

func (n *Networks) loadBoxes() error {
	files, err := filepath.Glob(filepath.Join(n.dir, "*", "sandbox.json"))
	if err != nil {
		return err
	}
	for _, f := range files {
		b := &box{planned: true}
		if err := readJSON(f, b); err != nil {
			return err
		}
		id := b.Spec.ContainerID
		if !n.plane.Exists(namespaceOf(id)) { // the machine has restarted since
			if err := os.RemoveAll(filepath.Dir(f)); err != nil {
				return fmt.Errorf("forget sandbox: %w", err)
			}
			continue
		}
		if err := n.readopt(b); err != nil {
			return fmt.Errorf("take up sandbox of %s: %w", id, err)
		}
		n.boxes[id] = b
	}
	return nil
}

func (n *Networks) readopt(b *box) error {
	if _, err := n.plane.Namespace(namespaceOf(b.Spec.ContainerID)); err != nil {
		return err
	}
	for _, e := range b.Endpoints {
		if l := n.locals[e.Info.NetworkID]; l != nil && l.pool != nil {
			l.pool.used[e.Info.Addr.Addr()] = true
			if l.pool6 != nil && e.Info.Addr6.IsValid() {
				l.pool6.used[e.Info.Addr6.Addr()] = true
			}
		}
	}
	for _, p := range b.Ports {
		if _, err := n.holdLocked(portKey{p.Protocol, p.HostIP, p.HostPort}, b.Spec.ContainerID); err != nil {
			n.log.Warn("published port was taken while the daemon was away", "port", p.HostPort, "err", err)
		}
	}
	return n.openResolver(b)
}
