package container

import (
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/shoal-dev/shoal/internal/shoal"
)

// Status is the phase of a container's life, in Docker's words.
type Status string

// The phases of a container's life.
const (
	Created    Status = "created" // never started, or it could not be started
	Running    Status = "running"
	Paused     Status = "paused"
	Restarting Status = "restarting" // ended; waits for its restart policy to start it again
	Removing   Status = "removing"   // removed; only who watches its record still sees this
	Exited     Status = "exited"
	Dead       Status = "dead" // no container of shoal gets here; it is a word of Docker's filters
)

// State is the state of a container's process.
type State struct {
	Status     Status
	PID        int       // of its first process on the host; 0 unless it runs
	ExitCode   int       // of the last run; 128 plus the number of the signal that ended it
	OOMKilled  bool      // the last run was ended by the kernel because memory ran out
	Error      string    // why the last start failed; "" if it did not
	StartedAt  time.Time // of the last run; zero before the first
	FinishedAt time.Time // of the last run that has ended; zero before
	Health     *Health   // nil without a health check
}

// Values of Health.Status, in Docker's words.
const (
	HealthStarting = "starting"
	Healthy        = "healthy"
	Unhealthy      = "unhealthy"
)

// Health is the outcome of a container's health checks since its start.
type Health struct {
	Status        string  // HealthStarting, Healthy or Unhealthy
	FailingStreak int     // how many probes have failed since the last that succeeded
	Log           []Probe // the last five, oldest first
}

// Probe is one run of a health check.
type Probe struct {
	Start, End time.Time
	ExitCode   int    // -1 if it did not end by itself
	Output     string // at most 4 KiB of it
}

// MountPoint is a mount of a container.
type MountPoint struct {
	Type        string // volume, bind, tmpfs or image
	Name        string // of the volume; of the image, as the user named it; "" for other types
	Source      string // the path on the host; the ID of an image; for a tmpfs "", or that word if it is of --tmpfs
	Target      string // the path in the container
	Driver      string // of the volume; "" for other types
	Mode        string // "z" for volumes, as Docker shows it
	Propagation string // of a bind mount, such as "rprivate"
	RW          bool   // not read-only
}

// Info is the record of a container at one moment, stored as container.json. Callers get copies, of which they must not change what
// slices, maps and pointers lead to.
type Info struct {
	ID      string // 64 hexadecimal digits
	Name    string // without a leading slash
	Spec    Spec
	ImageID string
	// ImageManifest is what of an image for several platforms it was made from; zero for containers of older daemons.
	ImageManifest ocispec.Descriptor
	Created       time.Time
	State         State
	Path          string   // the program
	Args          []string // its arguments
	Env           []string // with the image's
	WorkingDir    string
	User          string
	StopSignal    string             // "" for SIGTERM
	Labels        map[string]string  // with the image's
	Healthcheck   *shoal.Healthcheck // nil for none
	Shell         []string           // runs the line of a health check; nil for /bin/sh -c
	Entrypoint    []string
	Cmd           []string
	Mounts        []MountPoint
	RestartCount  int           // restarts by the restart policy
	Sandbox       shoal.Sandbox // of the run now, or of the last
	LogPath       string        // "" if the log driver writes no file
	ExecIDs       []string      // of the commands that run in it or are about to
	Stopped       bool          // the user stopped it, so that no restart policy starts it again
	Dir           string        `json:"-"` // the directory of its record and log
}

// volumes lists the names of the volumes that the container uses.
func (i *Info) volumes() []string {
	var names []string
	for _, m := range i.Mounts {
		if m.Type == "volume" {
			names = append(names, m.Name)
		}
	}
	return names
}
