package runtime

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"github.com/containerd/containerd/v2/client"
)

// Sandbox is the ID of the containerd sandbox that all containers are recorded in. For a container in a sandbox, containerd starts no
// shim but uses the one at the address that it is given; the sandbox has no other use. A shim that the daemon starts itself takes one
// process instead of two, can be started while the network is set up, and is the daemon's child, so that it is reaped.
const Sandbox = "shoal"

// ownShim is the name of the shim that the daemon can start itself.
const ownShim = "shoal-shim"

// shimVersion is the version of containerd's task API that the shim serves.
const shimVersion = 3

// Init returns the program to mount as /sbin/docker-init in containers that run with an init: our own shim. ok is false when another
// shim is in use.
func (rt *Runtime) Init() (path string, ok bool) { return rt.Shim, filepath.Base(rt.Shim) == ownShim }

// Shim is a shim process that the daemon has started and that has no task yet. A nil Shim stands for one that containerd starts.
type Shim struct {
	process *os.Process
	socket  string // the path of the socket at which it serves
}

// StartShim starts the shim of a container. When the shim in use is not our own, it returns nil and no error: containerd starts that one.
// A Shim that is returned together with an error must still be killed.
func (rt *Runtime) StartShim(id string) (*Shim, error) {
	if filepath.Base(rt.Shim) != ownShim {
		return nil, nil
	}
	s := &Shim{socket: rt.shimSocket(id)}
	if err := os.Remove(s.socket); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("remove old shim socket: %w", err)
	}
	listener, err := net.ListenUnix("unix", &net.UnixAddr{Name: s.socket, Net: "unix"})
	if err != nil {
		return nil, fmt.Errorf("make shim socket: %w", err)
	}
	listener.SetUnlinkOnClose(false)
	defer func() { _ = listener.Close() }()
	file, err := listener.File()
	if err != nil {
		return nil, fmt.Errorf("make shim socket: %w", err)
	}
	defer func() { _ = file.Close() }()
	cmd := exec.Command(rt.Shim, "serve", "-namespace", Namespace, "-id", id, "-socket", s.socket) // #nosec G204 -- our own program
	cmd.Dir = rt.state
	cmd.ExtraFiles = []*os.File{file}
	cmd.Env = append(os.Environ(),
		"GOMAXPROCS=2",              // a shim is idle nearly all the time, and threads cost memory
		"XDG_RUNTIME_DIR="+rt.state) // where a file tells runc of each exec: not on a disk, which may be full
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // a Ctrl-C at the daemon's terminal must not reach it
	if err := cmd.Start(); err != nil {
		return nil, errors.Join(fmt.Errorf("start shim: %w", err), os.Remove(s.socket))
	}
	s.process = cmd.Process
	go func() { _ = cmd.Wait() }() // reaps it; that it has ended is noticed by the wait for its task
	return s, setOOMScore(s.process.Pid)
}

// TaskOptions returns the options of a new task that make containerd use a shim; none for nil.
func (rt *Runtime) TaskOptions(s *Shim) []client.NewTaskOpts {
	if s == nil {
		return nil
	}
	return []client.NewTaskOpts{client.WithTaskAPIEndpoint("ttrpc+unix://"+s.socket, shimVersion)}
}

// Kill ends a shim that got no task and removes its socket. It does nothing for nil.
func (s *Shim) Kill() {
	if s != nil {
		_ = s.process.Kill() // it may have ended by itself
		_ = os.Remove(s.socket)
	}
}

// ForgetShim removes the socket that a killed shim leaves behind. It is no error if there is none.
func (rt *Runtime) ForgetShim(id string) { _ = os.Remove(rt.shimSocket(id)) }

// shimServes reports whether the shim of a container, started by this daemon or an earlier one, still runs.
func (rt *Runtime) shimServes(id string) bool {
	conn, err := net.Dial("unix", rt.shimSocket(id))
	if err != nil {
		return false
	}
	return conn.Close() == nil
}

// shimSocket is the path of the socket of a container's shim.
func (rt *Runtime) shimSocket(id string) string { return filepath.Join(rt.socketDir, id) }

// setOOMScore makes the kernel kill a shim before the daemon when memory runs out: a shim's score is the daemon's plus one. A shim that has
// ended is no error.
func setOOMScore(pid int) error {
	const file, most = "oom_score_adj", 1000
	text, err := os.ReadFile(filepath.Join("/proc/self", file))
	if err != nil {
		return fmt.Errorf("read the daemon's OOM score: %w", err)
	}
	score, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil {
		return fmt.Errorf("read the daemon's OOM score: %w", err)
	}
	err = os.WriteFile(filepath.Join("/proc", strconv.Itoa(pid), file), []byte(strconv.Itoa(min(score+1, most))), 0o600)
	if err != nil && !errors.Is(err, os.ErrNotExist) && !errors.Is(err, syscall.ESRCH) {
		return fmt.Errorf("set the shim's OOM score: %w", err)
	}
	return nil
}
