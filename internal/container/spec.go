package container

import (
	"encoding/json"
	"time"

	"github.com/shoal-dev/shoal/internal/shoal"
)

// Spec is the desired container, for `docker run` and for tasks alike. Empty fields take the image's values, and Docker's defaults where
// an image has none. Words and numbers mean what they mean in Docker's API. It is stored as JSON.
type Spec struct {
	Image        string // a name or an ID
	Platform     string // what the image is to be for ("linux/arm64"); empty for the node's platform, or the one that the image is there for
	Runtime      string // the name of an OCI runtime; empty for the node's
	Hostname     string // "" for the first 12 digits of the container's ID
	Domainname   string
	User         string   // "user", "user:group", "uid" or "uid:gid"
	Env          []string // "NAME=value"; "NAME" removes the image's variable
	Entrypoint   []string // nil: the image's; empty but not nil: none
	Cmd          []string
	WorkingDir   string
	Labels       map[string]string
	StopSignal   string        // by name or number
	StopTimeout  time.Duration // 0: Docker's ten seconds; a nanosecond for none
	TTY          bool          // the standard streams are a terminal
	ConsoleSize  [2]uint       // lines and columns of the terminal at first; zero leaves them to the client
	OpenStdin    bool          // clients can attach to standard input; else it is empty
	StdinOnce    bool          // standard input ends when the first attached client goes
	Healthcheck  *shoal.Healthcheck
	Shell        []string // runs the line of a health check; nil: the image's, else /bin/sh -c
	ExposedPorts []string // "80/tcp"
	PublishAll   bool     // the exposed ports, also the image's, are published on ports that the node chooses
	Volumes      []string // targets of anonymous volumes
	Mounts       []shoal.Mount
	Files        []File // secrets and configs
	// Network is the sandbox to ask the network for; ContainerID, Name, Hostname and Domainname are filled in at each start.
	Network    shoal.SandboxSpec
	Restart    Restart
	AutoRemove bool // removed when it ends
	Expendable bool // a loss of power may undo what was last recorded of it: nobody was told, and who has asked for it asks again
	Log        shoal.Driver
	Resources  Resources
	Ulimits    []shoal.Ulimit
	CapAdd     []string
	CapDrop    []string
	Privileged bool // all capabilities and devices, and of security.Restrict only what is asked for
	Devices    []Device
	// DeviceCgroupRules are devices that the container may use, whether it has nodes of them or not: "c 10:229 rwm", with "*" for any number.
	DeviceCgroupRules []string
	ReadOnly          bool     // the file system; mounts have a flag of their own
	SecurityOpt       []string // see security.Parse
	// MaskedPaths and ReadonlyPaths are what of the kernel's files the container cannot see, and cannot change; nil: Docker's.
	MaskedPaths, ReadonlyPaths []string
	Umask                      *uint32 // of the first process; nil: the OCI runtime's
	Sysctls                    map[string]string
	GroupAdd                   []string          // names or IDs of more groups of the user
	ShmSize                    int64             // bytes of /dev/shm; 0: 64 MiB
	Init                       *bool             // the command runs as the child of an init program; nil for the node's default
	OomScoreAdj                int               // -1000 to 1000: how much rather than others the kernel kills it when memory runs out
	PidMode                    string            // "", "private", "host", "container:<ref>"
	IpcMode                    string            // "" for private, "none", "private", "shareable", "host", "container:<ref>"
	UTSMode                    string            // "", "host"
	CgroupnsMode               string            // "", "private", "host"
	CgroupParent               string            // "" for Config.CgroupParent
	Annotations                map[string]string // for the runtime and for whoever lists containers
	// NetworkMode is the network mode as the user named it, for lists; "" for tasks.
	NetworkMode string
	// API is the request that made the container, with what updates have changed; inspect shows it again. Nil for tasks.
	API json.RawMessage
}

// File is a secret or config that is mounted into the container, read-only.
type File struct {
	Target   string // the path in the container, absolute
	Data     []byte `json:"-"` // kept in memory only, never in the record
	UID, GID int
	Mode     uint32 // permission bits
}

// Restart is the restart policy of a container.
type Restart struct {
	Name       string // "" or no, always, unless-stopped, on-failure
	MaxRetries int    // of on-failure; 0 for no limit
}

// Resources is what a container may use. A zero field means no limit, or the kernel's default.
type Resources struct {
	Memory            int64  // bytes
	MemorySwap        int64  // bytes of memory and swap together; 0: twice Memory; -1: no limit
	MemoryReservation int64  // bytes that it is reduced to when the machine runs out of memory
	NanoCPUs          int64  // billionths of a CPU; if it is set, CPUQuota and CPUPeriod do not count
	CPUShares         int64  // relative weight; the kernel's default is 1024
	CPUQuota          int64  // microseconds of CPU time in each period
	CPUPeriod         int64  // microseconds
	CpusetCpus        string // such as "0-2,7"
	CpusetMems        string // memory nodes, such as "0-1"
	Pids              int64  // processes and threads; -1 takes a limit away
	OomKillDisable    bool   // processes wait for memory instead of being killed (cgroup version 1 only)
	BlkioWeight       uint16 // relative weight, 10 to 1000
	Swappiness        *int64 // how readily its memory is swapped out, 0 to 100; nil leaves it to the kernel (cgroup version 1 only)
	// What is so of single block devices: weights, and how much may be read and written in a second, in bytes and in operations.
	BlkioWeights                                                           []DeviceLimit
	BlkioReadBps, BlkioWriteBps, BlkioReadOperations, BlkioWriteOperations []DeviceLimit
}

// DeviceLimit is a weight or a limit of a block device.
type DeviceLimit struct {
	Path string // on the host
	N    uint64
}

// Device is a device node of the host that the container gets.
type Device struct {
	Host        string // the path on the host
	Container   string // the path in the container; "" for the same
	Permissions string // of r (read), w (write) and m (mknod); "" for all
}
