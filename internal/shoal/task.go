package shoal

import (
	"fmt"
	"net/netip"
	"time"
)

// TaskState is how far a task has come. A task never returns to a lower state. Desired states are Ready, Running, Complete,
// Shutdown and Remove only.
type TaskState int

const (
	TaskNew       TaskState = 0   // made by the orchestrator
	TaskPending   TaskState = 64  // has its addresses, waits for a node
	TaskAssigned  TaskState = 192 // has a node
	TaskAccepted  TaskState = 256 // the node knows of it
	TaskPreparing TaskState = 320 // image, volumes, networks
	TaskReady     TaskState = 384 // could start
	TaskStarting  TaskState = 448 // started, not yet healthy
	TaskRunning   TaskState = 512 // runs, and is healthy if it has a health check
	TaskComplete  TaskState = 576 // ended with exit code 0
	TaskShutdown  TaskState = 640 // ended because it was told to
	TaskFailed    TaskState = 704 // ended with an error
	TaskRejected  TaskState = 768 // could not be started at all
	TaskRemove    TaskState = 800 // desired only: shut down, then forget
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

// String is the state's name in Docker's API.
func (s TaskState) String() string {
	if name, ok := taskStates()[s]; ok {
		return name
	}
	return fmt.Sprintf("state(%d)", int(s))
}

// ParseTaskState reads the API's name of a state.
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

// Task is one slot of a service, once. Its existence, Spec and DesiredState are written by the orchestrator, Networks and
// Ports by the allocator, NodeID by the scheduler, Status by the dispatcher on the agent's word (before there is a
// node, by the controller that moved or could not move the task on).
type Task struct {
	ID TaskID
	Meta
	ServiceID   ServiceID // empty for a plain container attached to an overlay network
	ServiceName string
	Labels      map[string]string // of the service
	Slot        uint64            // 0 for global tasks
	NodeID      NodeID
	Spec        TaskSpec
	SpecVersion uint64
	// EndpointSpec is a copy of the service's, from when the task was made; nil if that had none.
	EndpointSpec *EndpointSpec
	DesiredState TaskState
	Status       TaskStatus
	// RunningSince is when the task was first reported running; zero if it never was. See Observe.
	RunningSince time.Time
	Networks     []TaskNetwork
	// Ports is the ports published in host mode, as the allocator has chosen them.
	Ports        []Port
	JobIteration *uint64 // the run of the job that the task belongs to; nil: not a job
	// NotBefore holds a restarted task back; the orchestrator moves DesiredState to Running when it has passed.
	NotBefore time.Time
}

// Observe sets the status that was reported for the task.
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
	Message   string
	Err       string
	Container *ContainerStatus
	// Leaving is true while a user is ending the running container on its node (docker stop): balancers do not use the task.
	Leaving bool
	// Unready is true while a running task fails its readiness check: balancers do not use it until it passes again.
	Unready bool `json:",omitempty"`
	// Ports is the host-mode ports as bound on the node.
	Ports []Port
}

// ContainerStatus is the container that a task runs in.
type ContainerStatus struct {
	ContainerID string
	PID         int
	ExitCode    int
}

// TaskNetwork is a task's endpoint on one network: its addresses with the subnets' prefix lengths, IPv4 first.
type TaskNetwork struct {
	NetworkID NetworkID
	// VNI is the network's. It is repeated here because a task that is shutting down may outlive its network; no other network may
	// get that number before the task has ended.
	VNI       uint32
	Addresses []netip.Prefix
	Aliases   []string
}

// Prefixes is the IPv4 and the IPv6 address of the task on the network; one that it does not have is not valid.
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

// Wanted tells whether the task is meant to run, for good or, as part of a job, until it completes.
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
	Resources   *ResourceRequirements
	Restart     *RestartPolicy
	Placement   *Placement
	Networks    []NetworkAttachmentSpec
	LogDriver   *Driver
	ForceUpdate uint64
	// RegistryAuth is the encoded X-Registry-Auth header that came with the service; it never leaves through the API.
	RegistryAuth string
}

// AttachmentSpec attaches a container that is not part of a service to an overlay network.
type AttachmentSpec struct {
	ContainerID   string
	ContainerName string
	// Address is the address that the user asked for; not valid: any.
	Address netip.Addr
}

// Driver names a driver and its options.
type Driver struct {
	Name    string
	Options map[string]string
}

// RestartCondition says after which ends a task is replaced.
type RestartCondition string

// Restart conditions; empty means RestartAny.
const (
	RestartNone      RestartCondition = "none"
	RestartOnFailure RestartCondition = "on-failure"
	RestartAny       RestartCondition = "any"
)

// RestartPolicy says how ended tasks are replaced. Nil fields take Docker's defaults (any, 5 s, unlimited, unbounded).
type RestartPolicy struct {
	Condition   RestartCondition
	Delay       *time.Duration
	MaxAttempts *uint64
	Window      *time.Duration
}

// DefaultRestartDelay is the pause before a task is replaced, unless the policy says otherwise.
const DefaultRestartDelay = 5 * time.Second

// Placement limits the nodes a task may run on.
type Placement struct {
	Constraints []string
	Preferences []PlacementPreference
	MaxReplicas uint64
	Platforms   []Platform
}

// PlacementPreference spreads tasks evenly over the values of a node attribute ("node.labels.zone").
type PlacementPreference struct{ SpreadOver string }

// Platform is an operating system and a processor architecture.
type Platform struct{ OS, Architecture string }

// Resources is what a node has or a task reserves.
type Resources struct {
	NanoCPUs    int64 // 1e9 is one processor
	MemoryBytes int64
	Generic     []GenericResource
}

// GenericResource is a user-defined resource: a count (Named empty) or one named piece.
type GenericResource struct {
	Kind  string
	Named string
	Count int64
}

// Limits is what a task may use at most: billionths of a processor, bytes, processes; 0 means no limit.
type Limits struct{ NanoCPUs, MemoryBytes, Pids int64 }

// ResourceRequirements is a task's limits and reservations.
type ResourceRequirements struct {
	Limits           *Limits
	Reservations     *Resources
	SwapBytes        *int64 // beyond the memory limit; negative: no limit; nil: the engine's default
	MemorySwappiness *int64 // shown as it was sent; has no effect
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
	Init            *bool
	TTY             bool
	OpenStdin       bool
	ReadOnly        bool
	StopSignal      string
	StopGracePeriod *time.Duration
	Mounts          []Mount
	Healthcheck     *Healthcheck
	Hosts           []string // "IP name…", as in hosts(5)
	DNS             *DNSConfig
	Secrets         []SecretReference
	Configs         []ConfigReference
	Sysctls         map[string]string
	CapabilityAdd   []string
	CapabilityDrop  []string
	Ulimits         []Ulimit
	OomScoreAdj     int64
	Privileges      *Privileges
}

// DefaultStopGracePeriod is the time between a container's stop signal and SIGKILL.
const DefaultStopGracePeriod = 10 * time.Second

// Privileges is the security options of a container.
type Privileges struct {
	NoNewPrivileges bool
	SeccompMode     string
	SeccompProfile  []byte
	AppArmorMode    string
	// SELinux and CredentialSpec are kept as sent: their settings have no effect on Linux without SELinux.
	SELinux        map[string]string
	CredentialSpec map[string]string
}

// Mount brings a volume, a host directory or a tmpfs into a container.
type Mount struct {
	Type        string // volume, bind, tmpfs
	Source      string
	Target      string
	ReadOnly    bool
	Consistency string
	Bind        *BindOptions
	Volume      *VolumeOptions
	Tmpfs       *TmpfsOptions
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
	// TmpfsOptions belongs to a mount of type tmpfs.
	TmpfsOptions struct {
		SizeBytes int64
		Mode      uint32
		Options   [][]string
	}
)

// Healthcheck is a command whose exit code tells whether a container is healthy.
type Healthcheck struct {
	Test          []string
	Interval      time.Duration
	Timeout       time.Duration
	StartPeriod   time.Duration
	StartInterval time.Duration
	Retries       int
}

// DNSConfig is a container's resolver configuration.
type DNSConfig struct {
	Nameservers []netip.Addr
	Search      []string
	Options     []string
}

// Ulimit is one resource limit of a container's processes.
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
	Target   string // file name; empty for a config that is used by the runtime only
	UID, GID string
	Mode     uint32 // permissions, as in chmod(2)
	// Runtime marks a config that is no file in the container.
	Runtime bool
	// Generation is which of the data's generations the file has: see FileObject.Generation.
	Generation uint64 `json:",omitempty"`
}
