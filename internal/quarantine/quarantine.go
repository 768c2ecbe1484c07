// Package quarantine is what keeps a daemon going whose own state is partly broken. Records that make no sense are set aside: moved below one folder,
// where a person can look at them, neither lost nor in the way. What cannot be had for another reason, such as a fault of the disk or a port that is
// taken, is tried again at growing intervals. It keeps the list of both that `docker info` and `shoal doctor` show (docs/durability.md).
package quarantine

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/shoal-dev/shoal/internal/atomicfile"
	"github.com/shoal-dev/shoal/internal/events"
)

// Item is something that was set aside.
type Item struct {
	// Path was where it stood.
	Path string
	// Reason is the error that made it unusable.
	Reason string
	At     time.Time
	// Now is where it is to be found: a file or folder.
	Now string `json:"-"`
}

// Problem describes the item to an operator, in one sentence.
func (i Item) Problem() string {
	return fmt.Sprintf("%s could not be read and was set aside as %s on %s: %s", i.Path, i.Now, i.At.Format(time.DateTime), i.Reason)
}

// reasonFile is the Item, next to what was set aside.
const reasonFile = "reason.json"

// Quarantine is the folder of what was set aside. Its methods are safe for concurrent use.
type Quarantine struct {
	dir    string
	log    *slog.Logger
	events *events.Bus

	mu       sync.Mutex // guards items and troubles
	items    []Item
	troubles map[string]*trouble // by part
	added    chan struct{}       // tells Run of another trouble
}

// Open returns the quarantine in the folder, which is made when it is needed, with what earlier lives of the daemon have put there. It never
// fails: an item without a readable reason is listed without one.
func Open(dir string, log *slog.Logger, bus *events.Bus) *Quarantine {
	q := &Quarantine{dir: dir, log: log, events: bus, troubles: map[string]*trouble{}, added: make(chan struct{}, 1)}
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		log.Error("records that were set aside earlier cannot be listed", "dir", dir, "err", err)
	}
	for _, entry := range entries {
		if item, ok := q.read(filepath.Join(dir, entry.Name())); ok {
			q.items = append(q.items, item)
		}
	}
	slices.SortStableFunc(q.items, func(a, b Item) int { return a.At.Compare(b.At) })
	return q
}

// read is the item in a folder of the quarantine; not ok if there is none in it, as after a crash before it was moved there.
func (q *Quarantine) read(dir string) (item Item, ok bool) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return Item{}, false
	}
	for _, entry := range entries {
		if !strings.HasPrefix(entry.Name(), reasonFile) { // nor what a crash has left of the reason
			item.Now = filepath.Join(dir, entry.Name())
		}
	}
	if err := atomicfile.ReadJSON(filepath.Join(dir, reasonFile), &item); err != nil {
		item.Reason = "the reason was not recorded"
	}
	return item, item.Now != ""
}

// SetAside moves the file or folder at path into the quarantine because of cause, and tells of it in the log and as an event. After an error it is
// where it was.
func (q *Quarantine) SetAside(path string, cause error) error {
	item := Item{Path: path, Reason: cause.Error(), At: time.Now().UTC()}
	if err := q.move(&item); err != nil {
		q.log.Error("a record that cannot be read cannot be set aside either; it stays and is not used", "path", path, "reason", cause, "err", err)
		return fmt.Errorf("set aside %s: %w", path, err)
	}
	q.log.Error("a record cannot be read; it was set aside, and what it described is not used", "path", path, "now", item.Now, "err", cause)
	q.mu.Lock()
	q.items = append(q.items, item)
	q.mu.Unlock()
	q.events.Publish(events.Event{Type: "daemon", Action: "quarantine", ID: item.Path, Attributes: map[string]string{"name": item.Path, "path": item.Now, "reason": item.Reason}})
	return nil
}

func (q *Quarantine) move(item *Item) error {
	if err := atomicfile.Mkdir(q.dir, 0o700); err != nil {
		return err
	}
	dir, err := os.MkdirTemp(q.dir, item.At.Format("20060102T150405Z-")+"*")
	if err != nil {
		return err
	}
	item.Now = filepath.Join(dir, filepath.Base(item.Path))
	err = atomicfile.WriteJSON(filepath.Join(dir, reasonFile), item, 0o600)
	if err == nil {
		err = move(item.Path, item.Now)
	}
	if err == nil {
		return nil
	}
	if _, there := os.Lstat(item.Now); there == nil {
		q.log.Warn("what was set aside may be where it was again after a loss of power", "path", item.Path, "now", item.Now, "err", err)
		return nil
	}
	return errors.Join(err, os.RemoveAll(dir))
}

// move renames, or copies a file to another file system: the exec root is in memory.
func move(from, to string) error {
	err := atomicfile.Rename(from, to)
	if !errors.Is(err, syscall.EXDEV) {
		return err
	}
	info, err := os.Stat(from)
	if err != nil {
		return err
	}
	if !info.Mode().IsRegular() {
		return fmt.Errorf("%s is on another file system and no file", from)
	}
	file, err := os.Open(from)
	if err != nil {
		return err
	}
	defer func() { _ = file.Close() }()
	content, err := io.ReadAll(file)
	if err != nil {
		return err
	}
	if err := atomicfile.Write(to, content, 0o600); err != nil {
		return err
	}
	return os.Remove(from)
}

// Items is what was set aside and is still there, oldest first. Whoever has dealt with an item removes its folder.
func (q *Quarantine) Items() []Item {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.items = slices.DeleteFunc(q.items, func(i Item) bool {
		_, err := os.Stat(i.Now)
		return errors.Is(err, os.ErrNotExist)
	})
	return slices.Clone(q.items)
}

// Problems describes what was set aside and what cannot be had now, a sentence each, for `docker info` and `shoal doctor`.
func (q *Quarantine) Problems() []string {
	var all []string
	for _, item := range q.Items() {
		all = append(all, item.Problem())
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	return append(all, q.troubleProblemsLocked()...)
}
