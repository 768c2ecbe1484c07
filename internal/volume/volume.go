// Package volume keeps the node's local volumes: directories that outlive the containers that use them. It reads and writes the volumes
// directory under the data root, mounts what a volume's options ask for, and publishes events.
package volume

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/containerd/errdefs"

	"github.com/shoal-dev/shoal/internal/atomicfile"
	"github.com/shoal-dev/shoal/internal/events"
	"github.com/shoal-dev/shoal/internal/quarantine"
)

// Config is what a Store needs. All fields are required.
type Config struct {
	Log    *slog.Logger
	Root   string // the directory of the volumes, data-root/volumes
	Events *events.Bus
	// Quarantine takes malformed records.
	Quarantine *quarantine.Quarantine
}

// Volume is a named directory. Its record is stored as volume.json next to the directory. Callers get copies, of which they must not
// change the maps.
type Volume struct {
	Name       string
	Driver     string // always "local"
	Mountpoint string // the directory on the host
	CreatedAt  time.Time
	Labels     map[string]string
	Options    map[string]string // type, o and device as for mount(8); empty for a plain directory
	Anonymous  bool              // made without a name, so that `docker rm --volumes` and prune remove it
}

// Store keeps the node's volumes. Its methods are safe for concurrent use. A name that no volume has is a not found error.
type Store struct {
	Config
	disk sync.Mutex // held while volumes are made, removed and mounted, which takes as long as a disk or a server does; taken before mu

	mu      sync.Mutex                 // guards the fields below
	volumes map[string]*Volume         // by name
	users   map[string]map[string]bool // the IDs of the containers that use a volume, by its name
	mounted map[string]bool            // the names of the volumes whose options are known to be mounted
	listed  bool                       // the directory was read; until then no volume is made, for it might be there already
}

// recordFile is the name of a volume's record in its directory, next to the one with its data.
const recordFile = "volume.json"

// nameRule is which names volumes may have, as in Docker.
var nameRule = regexp.MustCompile(`^[a-zA-Z0-9][a-zA-Z0-9_.-]+$`)

// New returns a Store with the volumes under c.Root, which it makes if need be. A volume whose record is malformed is
// not listed: the record is set aside, and the data stays where it is. What cannot be read is read again later. An error means that the directory cannot
// be made.
func New(c Config) (*Store, error) {
	s := &Store{Config: c, volumes: map[string]*Volume{}, users: map[string]map[string]bool{}, mounted: map[string]bool{}}
	if err := atomicfile.Mkdir(c.Root, 0o701); err != nil {
		return nil, fmt.Errorf("make volumes directory: %w", err)
	}
	if err := s.load(); err != nil {
		c.Quarantine.Retry("volumes", err, func(context.Context) error { return s.load() })
	}
	return s, nil
}

// load reads all volumes. The error is that of the directory.
func (s *Store) load() error {
	dirs, err := os.ReadDir(s.Root)
	if err != nil {
		return err
	}
	for _, d := range dirs {
		if strings.HasPrefix(d.Name(), removedPrefix) {
			s.removeRest(filepath.Join(s.Root, d.Name()))
			continue
		}
		if err := s.loadRecord(d.Name()); err != nil {
			s.Quarantine.Retry("volume "+d.Name(), err, func(context.Context) error { return s.loadRecord(d.Name()) })
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.listed = true
	return nil
}

// loadRecord reads the volume of a name. It is no error if its record is malformed, and set aside, or if there is none, as after a creation or a
// removal that was cut off.
func (s *Store) loadRecord(name string) error {
	v, record := &Volume{}, filepath.Join(s.Root, name, recordFile)
	err := atomicfile.ReadJSON(record, v)
	if err == nil && v.Name != name {
		err = fmt.Errorf("read %s: %w: it is of volume %q", record, atomicfile.ErrMalformed, v.Name)
	}
	switch {
	case err == nil:
		v.Mountpoint = s.dataDir(v.Name)
		s.mu.Lock()
		defer s.mu.Unlock()
		s.volumes[v.Name] = v
		return nil
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case errors.Is(err, atomicfile.ErrMalformed):
		_ = s.Quarantine.SetAside(record, err) // logged
		return nil
	default:
		return err
	}
}

// dataDir is the directory of a volume's data.
func (s *Store) dataDir(name string) string { return filepath.Join(s.Root, name, "_data") }

// Spec is the volume that a user asks for.
type Spec struct {
	Name    string // "" for an anonymous volume, whose name is made up
	Driver  string // "" or local
	Labels  map[string]string
	Options map[string]string // type, o and device as for mount(8); size is accepted and has no effect
}

// Create makes a volume. An existing volume of that name is returned unchanged, whatever options are asked for, as Docker does.
// A driver other than local is a not found error; a malformed name or option is an invalid argument.
func (s *Store) Create(spec Spec) (*Volume, error) {
	if spec.Driver != "" && spec.Driver != "local" {
		return nil, errdefs.ErrNotFound.WithMessage(fmt.Sprintf("create %s: error looking up volume plugin %s: plugin %q not found", spec.Name, spec.Driver, spec.Driver))
	}
	anonymous := spec.Name == ""
	if anonymous {
		spec.Name = randomName()
	}
	if !nameRule.MatchString(spec.Name) {
		return nil, errdefs.ErrInvalidArgument.WithMessage(fmt.Sprintf("create %s: %q includes invalid characters for a local volume name, only \"[a-zA-Z0-9][a-zA-Z0-9_.-]\" are allowed. If you intended to pass a host directory, use absolute path", spec.Name, spec.Name))
	}
	s.disk.Lock()
	defer s.disk.Unlock()
	if v, err := s.Get(spec.Name); err == nil {
		return v, nil
	}
	if err := validateOptions(spec.Options); err != nil {
		return nil, fmt.Errorf("create %s: %w", spec.Name, err)
	}
	if err := s.checkUnknown(spec.Name); err != nil {
		return nil, err
	}
	v := &Volume{Name: spec.Name, Driver: "local", CreatedAt: time.Now(), Labels: spec.Labels, Options: spec.Options, Anonymous: anonymous, Mountpoint: s.dataDir(spec.Name)}
	if anonymous {
		v.Labels = map[string]string{}
		maps.Copy(v.Labels, spec.Labels)
		v.Labels["com.docker.volume.anonymous"] = ""
	}
	if err := s.save(v); err != nil {
		return nil, fmt.Errorf("create volume %s: %w", v.Name, err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.volumes[v.Name] = v
	s.publish("create", v, nil)
	return copyOf(v), nil
}

// recordVersion is the schema version of the records. It grows when what a field means changes.
const recordVersion = 1

// save makes a volume's directory and writes its record. After an error there is no record, or the error says so too: what of the directory is left may hold
// the data of a volume whose record was set aside.
func (s *Store) save(v *Volume) error {
	if err := atomicfile.Mkdir(v.Mountpoint, 0o755); err != nil {
		return err
	}
	encoded, err := json.Marshal(v)
	if err != nil {
		return err
	}
	record := filepath.Join(s.Root, v.Name, recordFile)
	if err := atomicfile.WriteRecord[Volume](atomicfile.Write, record, encoded, recordVersion, 0o600); err != nil {
		return errors.Join(err, atomicfile.RemoveAll(record))
	}
	return nil
}

// checkUnknown refuses the name of a volume that is there, perhaps, but could not be read yet.
func (s *Store) checkUnknown(name string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, err := os.Lstat(filepath.Join(s.Root, name, recordFile)); s.listed && errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return errdefs.ErrUnavailable.WithMessage(fmt.Sprintf("create %s: a volume of this name is on the disk, or may be, and cannot be read now", name))
}

// randomName is the name of an anonymous volume: 64 hexadecimal digits.
func randomName() string {
	var b [32]byte
	_, _ = rand.Read(b[:]) // never fails
	return hex.EncodeToString(b[:])
}

// validateOptions refuses the options that Docker refuses.
func validateOptions(options map[string]string) error {
	for key := range options {
		if key != "type" && key != "o" && key != "device" && key != "size" {
			return errdefs.ErrInvalidArgument.WithMessage(fmt.Sprintf("invalid option: %q", key))
		}
	}
	if (options["type"] != "" || options["o"] != "") && options["device"] == "" {
		return errdefs.ErrInvalidArgument.WithMessage("missing device in volume options")
	}
	return nil
}

// Get returns the volume of a name.
func (s *Store) Get(name string) (*Volume, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	v, ok := s.volumes[name]
	if !ok {
		return nil, notFound(name)
	}
	return copyOf(v), nil
}

// notFound is Docker's error for a volume that the node does not have.
func notFound(name string) error {
	return errdefs.ErrNotFound.WithMessage(fmt.Sprintf("volume %s not found", name))
}

// List returns the volumes sorted by name, nil if there are none.
func (s *Store) List() []*Volume {
	s.mu.Lock()
	defer s.mu.Unlock()
	var all []*Volume
	for _, name := range slices.Sorted(maps.Keys(s.volumes)) {
		all = append(all, copyOf(s.volumes[name]))
	}
	return all
}

// publish publishes an event about a volume with the attributes that Docker gives it, and more.
func (s *Store) publish(action string, v *Volume, more map[string]string) {
	attrs := map[string]string{"driver": v.Driver}
	maps.Copy(attrs, more)
	s.Events.Publish(events.Event{Type: "volume", Action: action, ID: v.Name, Attributes: attrs})
}

// copyOf returns a copy for a caller.
func copyOf(v *Volume) *Volume {
	c := *v
	return &c
}
