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

// Sandboxes and the cluster's table are saved below the exec root, which outlives the daemon but not the machine's restart. With them a
// restarted daemon derives the config that the kernel already has.

// journal is the table on disk, as lines of JSON: the whole table at some time, then the deltas since.
type journal struct {
	path                   string
	tableBytes, deltaBytes int64 // of the whole table, and of the deltas
}

// minCompactSize is the size of deltas in bytes up to which the journal is not compacted.
const minCompactSize = 64 << 10

// appendToJournal saves an applied delta. Once the deltas are longer than the table it replaces the journal by the whole table.
func (n *Networks) appendToJournal(delta *shoal.TableDelta) error {
	n.journalMu.Lock()
	defer n.journalMu.Unlock()
	j := &n.journal
	err := j.appendDelta(delta)
	if err == nil && j.deltaBytes > max(j.tableBytes, minCompactSize) {
		err = j.rewrite(n.Table())
	}
	if err != nil {
		return fmt.Errorf("remember table: %w", err)
	}
	return nil
}

func (j *journal) appendDelta(delta *shoal.TableDelta) error {
	line, err := json.Marshal(delta)
	if err != nil {
		return err
	}
	f, err := os.OpenFile(j.path, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	size, err := f.Write(append(line, '\n'))
	j.deltaBytes += int64(size)
	return errors.Join(err, f.Close())
}

// rewrite replaces the journal by the whole table, as one full delta.
func (j *journal) rewrite(table shoal.Table) error {
	whole := shoal.Difference(shoal.Table{}, table)
	whole.Full = true
	next := *j
	next.path, next.deltaBytes = j.path+".new", 0
	if err := os.RemoveAll(next.path); err != nil {
		return err
	}
	if err := next.appendDelta(&whole); err != nil {
		return err
	}
	j.tableBytes, j.deltaBytes = next.deltaBytes, 0
	return os.Rename(next.path, j.path)
}

// read returns the last saved table. It stops at a line that was not written completely, as after a crash.
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

func (n *Networks) restoreTable() error {
	table, err := n.journal.read()
	if err == nil {
		err = n.journal.rewrite(table)
	}
	if err != nil {
		return fmt.Errorf("take up table: %w", err)
	}
	delta := shoal.Difference(n.table, table)
	n.update(&delta)
	return nil
}

func (n *Networks) saveSandbox(sb *containerSandbox) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if err := writeJSON(filepath.Join(n.fileDir(sb.Spec.ContainerID), "sandbox.json"), sb); err != nil {
		return fmt.Errorf("remember sandbox: %w", err)
	}
	return nil
}

func (n *Networks) loadSandboxes() error {
	files, err := filepath.Glob(filepath.Join(n.dir, "*", "sandbox.json"))
	if err != nil {
		return err
	}
	for _, f := range files {
		sb := &containerSandbox{active: true}
		if err := readJSON(f, sb); err != nil {
			return err
		}
		id := sb.Spec.ContainerID
		if !n.plane.Exists(namespaceOf(id)) { // the machine has restarted since
			if err := os.RemoveAll(filepath.Dir(f)); err != nil {
				return fmt.Errorf("forget sandbox: %w", err)
			}
			continue
		}
		if err := n.restoreSandbox(sb); err != nil {
			return fmt.Errorf("take up sandbox of %s: %w", id, err)
		}
		n.sandboxes[id] = sb
	}
	return nil
}

func (n *Networks) restoreSandbox(sb *containerSandbox) error {
	if _, err := n.plane.Namespace(namespaceOf(sb.Spec.ContainerID)); err != nil {
		return err
	}
	for _, e := range sb.Endpoints {
		if l := n.localNetworks[e.Info.NetworkID]; l != nil && l.pool != nil {
			l.pool.used[e.Info.Addr.Addr()] = true
			if l.pool6 != nil && e.Info.Addr6.IsValid() {
				l.pool6.used[e.Info.Addr6.Addr()] = true
			}
		}
	}
	for _, p := range sb.Ports {
		if _, err := n.reservePortLocked(portKey{p.Protocol, p.HostIP, p.HostPort}, sb.Spec.ContainerID); err != nil {
			n.log.Warn("published port was taken while the daemon was away", "port", p.HostPort, "err", err)
		}
	}
	return n.openResolver(sb)
}
