package directory

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"sync"

	"github.com/shoal-dev/shoal/internal/shoal"
)

// Journal is the table on disk, as lines of JSON: the whole table at some time, then the deltas since. It outlives the daemon, which then
// derives what the kernel already has. Its methods may be called at any time by anybody.
type Journal struct {
	path string

	mu                     sync.Mutex // guards what follows, and the file
	tableBytes, deltaBytes int64      // of the whole table, and of the deltas since
}

// minCompactSize is the size of deltas in bytes up to which the journal is not compacted.
const minCompactSize = 64 << 10

// OpenJournal returns the journal in the file and the table that was last saved there, and compacts it. Without the file the table is empty. The journal
// can be used after an error too, with the table as far as it could be read.
func OpenJournal(path string) (*Journal, shoal.Table, error) {
	j := &Journal{path: path}
	table, err := j.read()
	if err == nil {
		err = j.rewrite(table)
	}
	if err != nil {
		return j, table, fmt.Errorf("read the saved table of networks: %w", err)
	}
	return j, table, nil
}

// Append saves an applied delta. Once the deltas are longer than the table it replaces the journal by the whole table, which current returns.
func (j *Journal) Append(delta *shoal.TableDelta, current func() shoal.Table) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	err := j.appendDelta(delta)
	if err == nil && j.deltaBytes > max(j.tableBytes, minCompactSize) {
		err = j.rewrite(current())
	}
	if err != nil {
		return fmt.Errorf("save the table of networks: %w", err)
	}
	return nil
}

func (j *Journal) appendDelta(delta *shoal.TableDelta) error {
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
func (j *Journal) rewrite(table shoal.Table) error {
	whole := shoal.Difference(shoal.Table{}, table)
	whole.Full = true
	next := Journal{path: j.path + ".new"}
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
func (j *Journal) read() (table shoal.Table, err error) {
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
