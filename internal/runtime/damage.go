package runtime

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	bolt "go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"
)

// damagedDatabases returns why databases of containerd below root are no databases any more; nil if they all are, as far as can be told.
func damagedDatabases(root string) error {
	files, _ := filepath.Glob(filepath.Join(root, "io.containerd.*", "*.db")) // fails for malformed patterns only
	return Damaged(files)
}

// Damaged returns why files that were databases (bbolt) are no databases any more; nil if they all are, as far as can be told. Nobody may have them open.
func Damaged(files []string) error {
	var damage []error
	for _, file := range files {
		db, err := bolt.Open(file, 0, &bolt.Options{ReadOnly: true, Timeout: time.Second})
		if err == nil {
			_ = db.Close()
			continue
		}
		if slices.ContainsFunc([]error{bolterrors.ErrInvalid, bolterrors.ErrChecksum, bolterrors.ErrVersionMismatch}, func(kind error) bool { return errors.Is(err, kind) }) {
			damage = append(damage, fmt.Errorf("open %s: %w", file, err))
		}
	}
	return errors.Join(damage...)
}

// setAsideContent moves away all that containerd keeps: its databases describe one another and the files next to them, which it would take for garbage
// without them. Images must be pulled and containers created again; both are still on the disk.
func setAsideContent(c Config, cause error) error {
	dirs, err := filepath.Glob(filepath.Join(c.Root, "io.containerd.*"))
	for _, dir := range dirs {
		if left, readErr := os.ReadDir(dir); readErr == nil && len(left) == 0 {
			continue
		}
		err = errors.Join(err, c.SetAside(dir, cause))
	}
	return err
}
