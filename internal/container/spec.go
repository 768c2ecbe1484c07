package container

import (
	"encoding/json"
	"time"

	"github.com/shoal-dev/shoal/internal/shoal"
)

// Spec is the desired container, for `docker run` and for tasks alike. Empty fields take the image's values. It is stored as JSON.
type Spec struct {
	Image        string
	Hostname     string
	Domainname   string
	User         string
	Env          []string
	Entrypoint   []string // nil: the image's; empty but not nil: none
	Cmd          []string
	WorkingDir   string
	Labels       map[string]string
	StopSignal   string
	StopTimeout  time.Duration // 0: Docker's ten seconds
	TTY          bool
	OpenStdin    bool
	StdinOnce    bool // standard input ends when the first attached client goes
	Healthcheck  *shoal.Healthcheck
	ExposedPorts []string // "80/tcp"
	Volumes      []string // targets of anonymous volumes
	Mounts       []shoal.Mount
	Files        []File
	// Network is the sandbox to ask the network for; ContainerID, Name, Hostname and Domainname are filled in at each start.
	Network      shoal.SandboxSpec
	Restart      Restart
	AutoRemove   bool
	Log          shoal.Driver
	Resources    Resources
	Ulimits      []shoal.Ulimit
	CapAdd       []string
	CapDrop      []string
	Privileged   bool
	Devices      []Device
	ReadOnly     bool
	SecurityOpt  []string
	Sysctls      map[string]string
	GroupAdd     []string
	ShmSize      int64 // bytes; 0: 64 MiB
	Init         bool
	OomScoreAdj  int
	PidMode      string // "", "host"
	IpcMode      string // "", "none", "private", "shareable", "host"
	UTSMode      string // "", "host"
	CgroupnsMode string
	CgroupParent string
	// API is the request that made the container, as it came; inspect shows it again. Nil for tasks.
	API json.RawMessage
}

// File is a secret or config that is mounted into the container. Its data is kept in memory only.
type File struct {
	Target   string // absolute
	Data     []byte `json:"-"`
	UID, GID int
	Mode     uint32
}

// Restart is the restart policy of a container.
type Restart struct {
	Name       string // "", no, always, unless-stopped, on-failure
	MaxRetries int    // of on-failure; 0 for no limit
}

// Resources is what a container may use; zero fields mean no limit.
type Resources struct {
	Memory, MemorySwap, MemoryReservation int64 // bytes
	NanoCPUs, CPUShares, CPUQuota         int64
	CPUPeriod                             int64
	CpusetCpus, CpusetMems                string
	Pids                                  int64
	OomKillDisable                        bool
	BlkioWeight                           uint16
}

// Device is a device node of the host, where the container sees it ("" for the same path) and the access to it ("" for rwm).
type Device struct{ Host, Container, Permissions string }

// Status is the phase of a container's life, in Docker's words.
type Status string

const (
	Created    Status = "created"
	Running    Status = "running"
	Paused     Status = "paused"
	Restarting Status = "restarting"
	Removing   Status = "removing"
	Exited     Status = "exited"
	Dead       Status = "dead"
)

// State is the state of a container's process. PID is 0 unless it runs; times are zero for what has not happened yet.
type State struct {
	Status     Status
	PID        int
	ExitCode   int
	OOMKilled  bool
	Error      string
	StartedAt  time.Time
	FinishedAt time.Time
	Health     *Health // nil without a health check
}

// Values of Health.Status, in Docker's words.
const (
	HealthStarting = "starting"
	Healthy        = "healthy"
	Unhealthy      = "unhealthy"
)

// Health is the outcome of a container's health checks.
type Health struct {
	Status        string
	FailingStreak int
	Log           []Probe // the last five
}

// Probe is one run of a health check. ExitCode is -1 if it did not end by itself.
type Probe struct {
	Start, End time.Time
	ExitCode   int
	Output     string
}

// MountPoint is a mount of a container. Name and Driver are set for volumes only; Source is a path of the host.
type MountPoint struct {
	Type, Name, Source, Target, Driver, Mode, Propagation string
	RW                                                    bool
}

// Info is the record of a container at one moment, stored as container.json. Callers get copies.
type Info struct {
	ID, Name     string
	Spec         Spec
	ImageID      string
	Created      time.Time
	State        State
	Path         string
	Args         []string
	Env          []string
	WorkingDir   string
	User         string
	StopSignal   string
	Labels       map[string]string // with the image's
	Healthcheck  *shoal.Healthcheck
	Entrypoint   []string
	Cmd          []string
	Mounts       []MountPoint
	RestartCount int
	Sandbox      shoal.Sandbox
	LogPath      string
	ExecIDs      []string
	// Stopped is set when the user stopped the container, so that no policy starts it again.
	Stopped bool
	Dir     string `json:"-"`
}
