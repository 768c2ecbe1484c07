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

// Sandbox is the containerd sandbox that all containers are recorded in. It is there for one reason: containerd starts no shim
// for a container in a sandbox, but uses the one it is told of. Starting it ourselves takes one program instead of two, can
// be done while the network is made, and makes the shim our child, so that it is reaped.
const Sandbox = "shoal"

// ownShim is the name of the program that can be started this way.
const ownShim = "shoal-shim"

// shimVersion is the version of containerd's task API that the shim serves.
const shimVersion = 3

// Init is the program that can be the first process of a container when it is mounted as /sbin/docker-init: our own shim.
func (rt *Runtime) Init() (path string, ok bool) { return rt.Shim, filepath.Base(rt.Shim) == ownShim }

// Shim is a shim that waits for its task.
type Shim struct {
	process *os.Process
	socket  string
}

// StartShim starts the shim of a container. It is nil when the shim in use is not our own: containerd starts it then.
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
	cmd.Env = append(os.Environ(), "GOMAXPROCS=2")        // it waits nearly all its life; threads cost memory
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // what interrupts the daemon is not meant for it
	if err := cmd.Start(); err != nil {
		return nil, errors.Join(fmt.Errorf("start shim: %w", err), os.Remove(s.socket))
	}
	s.process = cmd.Process
	go func() { _ = cmd.Wait() }() // its end is seen by whoever waits for its task
	return s, setOOMScore(s.process.Pid)
}

// TaskOptions tells containerd to use the shim.
func (rt *Runtime) TaskOptions(s *Shim) []client.NewTaskOpts {
	if s == nil {
		return nil
	}
	return []client.NewTaskOpts{client.WithTaskAPIEndpoint("ttrpc+unix://"+s.socket, shimVersion)}
}

// Kill ends a shim that did not come to serve a task.
func (s *Shim) Kill() {
	if s != nil {
		_ = s.process.Kill() // it may have ended by itself
		_ = os.Remove(s.socket)
	}
}

// ForgetShim removes what the shim of an ended container leaves if it was killed.
func (rt *Runtime) ForgetShim(id string) { _ = os.Remove(rt.shimSocket(id)) }

// shimServes tells whether the shim of a container, started by this daemon or an earlier one, still runs.
func (rt *Runtime) shimServes(id string) bool {
	conn, err := net.Dial("unix", rt.shimSocket(id))
	if err != nil {
		return false
	}
	return conn.Close() == nil
}

func (rt *Runtime) shimSocket(id string) string { return filepath.Join(rt.socketDir, id) }

// setOOMScore makes the kernel prefer any container to the shim, and the shim to the daemon, when memory runs out.
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
