package network

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/shoal-dev/shoal/internal/shoal"
)

// What must outlive the daemon, but not the machine: sandboxes, and the table by which they reach the rest of the cluster. With
// them a restarted daemon finds nothing to change.

func (n *Networks) tablePath() string { return filepath.Join(n.dir, "table.json") }

func (n *Networks) saveTable(table shoal.Table) error {
	if err := writeJSON(n.tablePath(), table); err != nil {
		return fmt.Errorf("remember table: %w", err)
	}
	return nil
}

func (n *Networks) loadTable() error {
	var table shoal.Table
	if err := readJSON(n.tablePath(), &table); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	n.setTableLocked(table)
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
		}
	}
	for _, p := range b.Ports {
		if _, err := n.holdLocked(portKey{p.Protocol, p.HostIP, p.HostPort}, b.Spec.ContainerID); err != nil {
			n.log.Warn("published port was taken while the daemon was away", "port", p.HostPort, "err", err)
		}
	}
	return n.openResolver(b)
}
