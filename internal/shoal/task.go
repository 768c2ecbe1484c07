package shoal

import (
	"fmt"
	"net/netip"
	"strings"
	"time"
)

// TaskState is how far a task has come, or should come. The state of a task only ever grows. As the desired state of a task only Ready,
// Running, Complete, Shutdown and Remove are used.
type TaskState int

const (
	TaskNew       TaskState = 0   // created by the orchestrator, waits for addresses
	TaskPending   TaskState = 64  // has its addresses, waits for a node
	TaskAssigned  TaskState = 192 // has a node, whose agent has not yet reported it
	TaskAccepted  TaskState = 256 // the agent of its node has it
	TaskPreparing TaskState = 320 // the image is pulled and the container created
	TaskReady     TaskState = 384 // can be started
	TaskStarting  TaskState = 448 // started, but not yet healthy
	TaskRunning   TaskState = 512 // runs, and is healthy if it has a health check
	TaskComplete  TaskState = 576 // ended with exit code 0
	TaskShutdown  TaskState = 640 // ended because its desired state asked for it
	TaskFailed    TaskState = 704 // ended with an error
	TaskRejected  TaskState = 768 // could not be started at all
	TaskRemove    TaskState = 800 // only as desired state: to be shut down and then deleted
	TaskOrphaned  TaskState = 832 // its node has been gone for too long
)

func taskStates() map[TaskState]string {
	return map[TaskState]string{
		TaskNew: "new", TaskPending: "pending", TaskAssigned: "assigned", TaskAccepted: "accepted",
		TaskPreparing: "preparing", TaskReady: "ready", TaskStarting: "starting", TaskRunning: "running",
		TaskComplete: "complete", TaskShutdown: "shutdown", TaskFailed: "failed", TaskRejected: "rejected",
		TaskRemove: "remove", TaskOrphaned: "orphaned",
	}
}

// String is the state's name in Docker's API, such as "running".
func (s TaskState) String() string {
	if name, ok := taskStates()[s]; ok {
		return name
	}
	return fmt.Sprintf("state(%d)", int(s))
}

// ParseTaskState reads a state's name in Docker's API; false if there is no such state.
func ParseTaskState(name string) (TaskState, bool) {
	for s, n := range taskStates() {
		if n == name {
			return s, true
		}
	}
	return 0, false
}

// Ended tells whether a task in this observed state will never run again.
func (s TaskState) Ended() bool { return s > TaskRunning }

// Task is one run of one slot of a service; when it ends, another task takes the slot. The orchestrator creates and deletes tasks and writes
// Spec and DesiredState, the allocator writes Networks and Ports, the scheduler NodeID. Status is written by the dispatcher, as the agent
// reports it, and before the task has a node by whichever controller has moved the task on or could not.
type Task struct {
	ID TaskID
	Meta
	ServiceID   ServiceID // empty for a plain container attached to an overlay network
	ServiceName string
	Labels      map[string]string // of the service, when the task was created
	Slot        uint64            // from 1; 0 for tasks of global services and attached containers
	NodeID      NodeID            // empty until the task is assigned
	Spec        TaskSpec          // of the service, when the task was created
	SpecVersion uint64            // of the service, when the task was created
	// EndpointSpec is that of the service when the task was created.
	EndpointSpec *EndpointSpec
	DesiredState TaskState
	Status       TaskStatus
	// RunningSince is when the task first was in state Running; zero if it never was, or ended before its agent reported it. See Observe.
	RunningSince time.Time
	Networks     []TaskNetwork
	// Ports is the ports to publish in host mode.
	Ports        []Port
	JobIteration *uint64 // the run of the job that the task belongs to; nil for services that are no jobs
	// NotBefore is the earliest start of a task that replaces one that ended: the orchestrator then sets DesiredState to Running. Zero for
	// a task that need not wait.
	NotBefore time.Time
	// HeldUntil is set while a task is kept from its node, even if it has one: its predecessor was rejected before its own pause was over, and this one
	// would be at once, too. The orchestrator clears it when that pause is over, or when the task is not wanted any more.
	HeldUntil time.Time `json:",omitzero"`
	// DefaultLogDriver is that of the cluster when the task was created, nil for none.
	DefaultLogDriver *Driver `json:",omitempty"`
}

// LogDriver is the log driver that the service or the cluster wants for the task; nil is the node's default.
func (t *Task) LogDriver() *Driver {
	if t.Spec.LogDriver != nil {
		return t.Spec.LogDriver
	}
	return t.DefaultLogDriver
}

// Observe records a status that the task's agent has reported.
func (t *Task) Observe(s TaskStatus) {
	if s.State == TaskRunning && t.RunningSince.IsZero() {
		t.RunningSince = s.Timestamp
	}
	t.Status = s
}

// TaskStatus is what is known of a task's progress.
type TaskStatus struct {
	State     TaskState
	Timestamp time.Time
	Message   string           // what is being done, for users
	Err       string           // what went wrong, for users; empty if nothing did
	Container *ContainerStatus // nil until the container exists
	// Leaving is set on a running task whose container a user is about to stop on its node: load balancers must not use it any more.
	Leaving bool
	// Unready is set on a running task that fails its readiness check: load balancers must not use it until it passes again.
	Unready bool `json:",omitempty"`
	// Ports is the host-mode ports with the numbers that the node has bound.
	Ports []Port
}

const noteSeparator = "; "

// WithNote returns the status with a note for users behind its message.
func (s TaskStatus) WithNote(note string) TaskStatus {
	message, _, _ := strings.Cut(s.Message, noteSeparator)
	s.Message = message + noteSeparator + note
	return s
}

// WithMessage returns the status with another message. A note stays behind it.
func (s TaskStatus) WithMessage(message string) TaskStatus {
	if _, note, ok := strings.Cut(s.Message, noteSeparator); ok {
		message += noteSeparator + note
	}
	s.Message = message
	return s
}

// ContainerStatus is the container that a task runs in.
type ContainerStatus struct {
	ContainerID string
	PID         int // in the node's namespace; 0 when it does not run
	ExitCode    int // meaningful once the task has ended
}

// TaskNetwork is a task's endpoint on one network. Addresses have the prefix length of their subnet; IPv4 comes first.
type TaskNetwork struct {
	NetworkID NetworkID
	// VNI is that of the network. It is kept here because a task that shuts down may outlive the network, and until it has ended no other
	// network may get the number.
	VNI       uint32
	Addresses []netip.Prefix
	Aliases   []string
}

// Prefixes is the IPv4 and the IPv6 address of the task on the network. An address that it does not have is not valid.
func (n TaskNetwork) Prefixes() (ip4, ip6 netip.Prefix) {
	for _, p := range n.Addresses {
		if p.Addr().Is4() {
			ip4 = p
		} else if p.IsValid() {
			ip6 = p
		}
	}
	return ip4, ip6
}

// Wanted tells whether the task should run (or, in a job, complete), rather than be shut down.
func (t *Task) Wanted() bool { return t.DesiredState <= TaskComplete }

// Name is what a container of this task is called: "web.1.<task id>", for a global task "web.<node id>.<task id>".
func (t *Task) Name() string {
	switch {
	case t.ServiceID == "":
		return string(t.ID)
	case t.Slot > 0:
		return fmt.Sprintf("%s.%d.%s", t.ServiceName, t.Slot, t.ID)
	default:
		return t.ServiceName + "." + string(t.NodeID) + "." + string(t.ID)
	}
}

// TaskSpec is the template of a service's tasks.
type TaskSpec struct {
	Container *ContainerSpec
	// Attachment is set instead of Container for a plain container attached to an overlay network.
	Attachment  *AttachmentSpec
	Resources   *ResourceRequirements   // nil for no limits and reservations
	Restart     *RestartPolicy          // nil is Docker's default
	Placement   *Placement              // nil for any node
	Networks    []NetworkAttachmentSpec // without the ingress network, which published ports imply
	LogDriver   *Driver                 // nil is the cluster's default, else the node's
	ForceUpdate uint64                  // a change of it replaces all tasks, even if nothing else has changed
	// RegistryAuth is the value of the X-Registry-Auth header that the spec was sent with: credentials for pulling the image. The API
	// never shows it.
	RegistryAuth string
}

// AttachmentSpec is a container that is no service's task but is attached to an overlay network. A task stands for it in the store.
type AttachmentSpec struct {
	ContainerID   string
	ContainerName string
	// Address is the one that the user asked for; if it is not valid, any will do.
	Address netip.Addr
}

// Driver is the name of a driver, such as that of logs, and its options.
type Driver struct {
	Name    string
	Options map[string]string
}

// RestartCondition says after which ends a task is replaced.
type RestartCondition string

// Restart conditions; empty means RestartAny.
const (
	RestartNone      RestartCondition = "none"       // never
	RestartOnFailure RestartCondition = "on-failure" // after an end with an error
	RestartAny       RestartCondition = "any"        // after every end
)

// RestartPolicy says how tasks that have ended are replaced. Fields that are nil or empty have Docker's defaults.
type RestartPolicy struct {
	Condition   RestartCondition // default: any
	Delay       *time.Duration   // from the end of a task to the start of the next; default: 5 s
	MaxAttempts *uint64          // restarts of one slot; default, and 0: unlimited
	Window      *time.Duration   // only restarts within it count for MaxAttempts; default, and 0: all
}

// DefaultRestartDelay is the pause before a task is replaced, unless the policy says otherwise.
const DefaultRestartDelay = 5 * time.Second

// Placement limits the nodes a task may run on.
type Placement struct {
	Constraints []string // see ParseConstraints; a node must satisfy all
	Preferences []PlacementPreference
	MaxReplicas uint64     // tasks of the service on one node; 0 means any number
	Platforms   []Platform // a node must be of one of them; nil means any
}

// PlacementPreference spreads tasks evenly over the values of a node attribute, such as "node.labels.zone".
type PlacementPreference struct{ SpreadOver string }

// Platform is an operating system and a processor architecture, such as "linux" and "x86_64".
type Platform struct{ OS, Architecture string }

// Resources is what a node has, or what a task reserves. One CPU is 10^9 NanoCPUs.
type Resources struct {
	NanoCPUs    int64 // 1e9 is one processor
	MemoryBytes int64
	Generic     []GenericResource
}

// GenericResource is an amount of a resource that users define, such as GPUs: Count pieces that are all alike or, if Named is not empty, the
// one piece of that name.
type GenericResource struct {
	Kind  string
	Named string
	Count int64
}

// Limits is the most that a task may use; 0 means no limit. One CPU is 10^9 NanoCPUs.
type Limits struct{ NanoCPUs, MemoryBytes, Pids int64 }

// ResourceRequirements is a task's limits and reservations.
type ResourceRequirements struct {
	Limits           *Limits    // nil for none
	Reservations     *Resources // nil for none
	SwapBytes        *int64     // beyond the memory limit; -1 means any amount, nil the kernel's default
	MemorySwappiness *int64     // nil or -1: other values are refused by the API
}

// ContainerSpec is the container that a task runs.
type ContainerSpec struct {
	Image           string
	Labels          map[string]string
	Command         []string // replaces the image's entrypoint
	Args            []string // replaces the image's command
	Hostname        string
	Env             []string
	Dir             string
	User            string
	Groups          []string
	Init            *bool // run a small init process as PID 1; nil means no
	TTY             bool
	OpenStdin       bool
	ReadOnly        bool
	StopSignal      string         // empty is the image's, else SIGTERM
	StopGracePeriod *time.Duration // nil is DefaultStopGracePeriod
	Mounts          []Mount
	Healthcheck     *Healthcheck // nil is the image's
	Hosts           []string     // lines of hosts(5): "IP name…"
	DNS             *DNSConfig   // nil is the node's
	Secrets         []SecretReference
	Configs         []ConfigReference
	Sysctls         map[string]string
	CapabilityAdd   []string
	CapabilityDrop  []string
	Ulimits         []Ulimit
	OomScoreAdj     int64
	Privileges      *Privileges
}

// DefaultStopGracePeriod is the time between a container's stop signal and SIGKILL, unless its spec says otherwise.
const DefaultStopGracePeriod = 10 * time.Second

// Privileges is the security options of a container.
type Privileges struct {
	NoNewPrivileges bool
	SeccompMode     string
	SeccompProfile  []byte
	AppArmorMode    string
	// SELinux and CredentialSpec are kept only to be shown by the API; they have no effect on nodes.
	SELinux        map[string]string
	CredentialSpec map[string]string
}

// Mount brings a volume, a host directory or a tmpfs into a container.
type Mount struct {
	Type        string // volume, bind, tmpfs, image
	Source      string
	Target      string
	ReadOnly    bool
	Consistency string
	Bind        *BindOptions
	Volume      *VolumeOptions
	Tmpfs       *TmpfsOptions
	Image       *ImageOptions `json:",omitempty"`
}

type (
	// BindOptions belongs to a mount of type bind.
	BindOptions struct {
		Propagation            string
		NonRecursive           bool
		CreateMountpoint       bool
		ReadOnlyNonRecursive   bool
		ReadOnlyForceRecursive bool
	}
	// VolumeOptions belongs to a mount of type volume.
	VolumeOptions struct {
		NoCopy  bool
		Labels  map[string]string
		Subpath string
		Driver  *Driver
	}
	// ImageOptions belongs to a mount of type image.
	ImageOptions struct {
		Subpath string // the path in the image that is mounted; "" for all
	}
	// TmpfsOptions belongs to a mount of type tmpfs.
	TmpfsOptions struct {
		SizeBytes int64  // 0 means no limit
		Mode      uint32 // permission bits; 0 leaves them to the kernel
		Options   [][]string
	}
)

// Healthcheck is a command whose exit code tells whether a container is healthy. Fields that are zero are the image's, else Docker's defaults.
type Healthcheck struct {
	Test          []string // {"CMD", …}, {"CMD-SHELL", command} or {"NONE"}; empty is the image's
	Interval      time.Duration
	Timeout       time.Duration
	StartPeriod   time.Duration // failures within it after the start do not count
	StartInterval time.Duration // between two checks during StartPeriod
	Retries       int           // failures in a row that make the container unhealthy
}

// DNSConfig is a container's resolver configuration, as in resolv.conf(5).
type DNSConfig struct {
	Nameservers []netip.Addr
	Search      []string
	Options     []string
}

// Ulimit is one limit of a container's processes, as of setrlimit(2); -1 means unlimited.
type Ulimit struct {
	Name       string
	Soft, Hard int64
}

type (
	// SecretReference puts a secret into a container as a file.
	SecretReference = FileReference[SecretID]
	// ConfigReference puts a config into a container as a file.
	ConfigReference = FileReference[ConfigID]
)

// FileReference puts a secret or config into a container as a file.
type FileReference[ID SecretID | ConfigID] struct {
	ID       ID
	Name     string // of the secret or config
	Target   string // the name of the file, below /run/secrets for a secret if it is relative; empty if Runtime is set
	UID, GID string
	Mode     uint32
	// Runtime is set for a config that is not a file in the container but read by the engine, as credential specs are.
	Runtime bool
	// Generation is that of the secret or config when the reference was made: see FileObject.
	Generation uint64 `json:",omitempty"`
}

// GenericCounts counts pieces: a named one is one, an amount is as many.
func GenericCounts(all []GenericResource) map[string]int64 {
	if len(all) == 0 {
		return nil
	}
	counts := map[string]int64{}
	for _, g := range all {
		if g.Named != "" {
			counts[g.Kind]++
		} else {
			counts[g.Kind] += g.Count
		}
	}
	return counts
}
