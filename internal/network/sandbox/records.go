package sandbox

import (
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"

	"github.com/shoal-dev/shoal/internal/atomicfile"
)

// Records is the folder in which every container has a folder of its own, with the record of its sandbox and the files that it finds in /etc.
type Records string

// Dir is the container's folder.
func (r Records) Dir(containerID string) string { return filepath.Join(string(r), containerID) }

// recordVersion is the schema version of the records. It grows when what a field means changes.
const recordVersion = 1

// Save writes the sandbox's record. The container's folder must exist.
func (r Records) Save(sb *Sandbox) error {
	encoded, err := json.Marshal(sb)
	if err == nil {
		err = atomicfile.WriteRecord[Sandbox](atomicfile.WriteVolatile, filepath.Join(r.Dir(sb.Spec.ContainerID), "sandbox.json"), encoded, recordVersion, 0o600)
	}
	if err != nil {
		return fmt.Errorf("write record of sandbox: %w", err)
	}
	return nil
}

// Load reads the records, as active sandboxes. It removes the folders of containers whose namespace is gone, as all are after a restart of the machine.
//
// A malformed record is set aside, and one that cannot be read is left: their containers get other sandboxes when the daemon finds them running.
func (r Records) Load(log *slog.Logger, namespaceExists func(name string) bool, setAside func(path string, cause error) error) []*Sandbox {
	files, _ := filepath.Glob(filepath.Join(string(r), "*", "sandbox.json")) // fails for malformed patterns only
	var out []*Sandbox
	for _, f := range files {
		if !namespaceExists(Namespace(filepath.Base(filepath.Dir(f)))) {
			if err := os.RemoveAll(filepath.Dir(f)); err != nil {
				log.Warn("record of a container's networks that is of no use any more cannot be removed", "file", f, "err", err)
			}
			continue
		}
		sb := &Sandbox{Active: true}
		err := atomicfile.ReadJSON(f, sb)
		if err == nil && sb.Spec.ContainerID != filepath.Base(filepath.Dir(f)) {
			err = fmt.Errorf("read %s: %w: it is of container %q", f, atomicfile.ErrMalformed, sb.Spec.ContainerID)
		}
		if errors.Is(err, atomicfile.ErrMalformed) {
			_ = setAside(f, err) // logged
			continue
		}
		if err != nil {
			log.Error("record of a container's networks cannot be read; the container gets others", "file", f, "err", err)
			continue
		}
		out = append(out, sb)
	}
	return out
}
