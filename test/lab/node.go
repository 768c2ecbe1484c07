package lab

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Node is a host with a daemon.
type Node struct {
	*Host
	cmd    *exec.Cmd
	exited chan struct{}
	flags  []string
}

// AddNode adds a machine with a daemon and starts the daemon, with further flags.
func (l *Lab) AddNode(name string, last int, flags ...string) (*Node, error) {
	host, err := l.AddHost(name, last)
	if err != nil {
		return nil, err
	}
	n := &Node{Host: host, flags: flags}
	l.nodes = append(l.nodes, n)
	if err := os.MkdirAll(n.ExecRoot(), 0o755); err != nil {
		return nil, err
	}
	// As /run is. The lab unmounts all that is below its folder.
	if err := unix.Mount("tmpfs", n.ExecRoot(), "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, "mode=755"); err != nil {
		return nil, fmt.Errorf("mount %s: %w", n.ExecRoot(), err)
	}
	return n, n.Start()
}

func (n *Node) dir() string { return filepath.Join(n.lab.Dir, n.Name) }

// ExecRoot is where the daemon keeps what does not outlive a reboot.
func (n *Node) ExecRoot() string { return filepath.Join(n.dir(), "run") }

// DataRoot is where the daemon keeps the rest.
func (n *Node) DataRoot() string { return filepath.Join(n.dir(), "data") }

// Socket is where the daemon serves the API.
func (n *Node) Socket() string { return filepath.Join(n.dir(), "docker.sock") }

// Log is the file that the daemon logs to.
func (n *Node) Log() string { return filepath.Join(n.dir(), "daemon.log") }

func (n *Node) configFile() string { return filepath.Join(n.dir(), "daemon.json") }

// Configure writes the daemon's configuration file and sets the flags that it is started with next, besides the lab's own.
func (n *Node) Configure(file string, flags ...string) error {
	n.flags = flags
	return os.WriteFile(n.configFile(), []byte(file), 0o600)
}

// Flags is the flags that the daemon is started with, besides the lab's own.
func (n *Node) Flags() []string { return n.flags }

// Hangup makes the daemon read its settings anew.
func (n *Node) Hangup() error { return n.cmd.Process.Signal(syscall.SIGHUP) }

// PID is the daemon's process.
func (n *Node) PID() int { return n.cmd.Process.Pid }

// startLimit bounds a daemon's start. It is generous: the machine may be busy with other tests.
const startLimit = 60 * time.Second

// Start starts the daemon and waits until it answers.
func (n *Node) Start() error {
	log, err := os.OpenFile(n.Log(), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	defer func() { _ = log.Close() }()
	args := []string{
		"--net=" + n.Namespace(), "--", "unshare", "--uts", "--", "sh", "-c", `hostname "$0" && exec "$@"`, n.Name,
		n.lab.Binary, "daemon", "--data-root", n.DataRoot(), "--exec-root", n.ExecRoot(), "--pidfile", filepath.Join(n.dir(), "pid"),
		"-H", "unix://" + n.Socket(), "--config-file", n.configFile(), "--debug",
		"--cgroup-parent", n.cgroupParent(),
	}
	if !exists(n.configFile()) {
		if err := n.Configure("{}\n", n.flags...); err != nil {
			return err
		}
	}
	n.cmd = exec.Command("nsenter", append(args, n.flags...)...)
	n.cmd.Stdout, n.cmd.Stderr = log, log
	n.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // an interrupt of the test is the lab's to handle
	if err := n.cmd.Start(); err != nil {
		return err
	}
	n.exited = make(chan struct{})
	go func(cmd *exec.Cmd, exited chan struct{}) {
		_ = cmd.Wait()
		close(exited)
	}(n.cmd, n.exited)
	return n.awaitAnswer()
}

func (n *Node) awaitAnswer() error {
	client := &http.Client{Transport: &http.Transport{DialContext: n.dialSocket, DisableKeepAlives: true}}
	limit := time.After(startLimit)
	for {
		if resp, err := client.Get("http://docker/_ping"); err == nil {
			_ = resp.Body.Close()
			return nil
		}
		select {
		case <-n.exited:
			return fmt.Errorf("daemon of %s has ended:\n%s", n.Name, n.tail())
		case <-limit:
			return fmt.Errorf("daemon of %s does not answer:\n%s", n.Name, n.tail())
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// tail is the end of the daemon's log.
func (n *Node) tail() string {
	const size = 4000
	text, err := os.ReadFile(n.Log())
	if err != nil {
		return err.Error()
	}
	return string(text[max(0, len(text)-size):])
}

// Stop ends the daemon in good order; its containers live on.
func (n *Node) Stop() error {
	if err := n.cmd.Process.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	select {
	case <-n.exited:
		return nil
	case <-time.After(startLimit):
		return fmt.Errorf("daemon of %s does not stop:\n%s", n.Name, n.tail())
	}
}

// Kill ends the daemon at once, as a crash would; its containers live on.
func (n *Node) Kill() error {
	err := n.cmd.Process.Kill()
	<-n.exited
	if errors.Is(err, os.ErrProcessDone) {
		return nil
	}
	return err
}

// KillShims kills the processes that look after the node's containers.
func (n *Node) KillShims() error { return killEach(n.ownProcesses()) }

// wipe ends everything that runs on the node.
func (n *Node) wipe() {
	if n.cmd != nil {
		_ = n.Kill() // whatever is wrong with it, its processes are killed below
	}
	for range 5 {
		_ = killEach(n.ownProcesses())
		groups := n.cgroups()
		for _, g := range groups {
			_ = killEach(processesIn(g))
		}
		if n.removeCgroups(groups) {
			return
		}
		time.Sleep(50 * time.Millisecond)
	}
}

// ownProcesses is every process whose command line names the node's folder: daemon, shims and runtime.
func (n *Node) ownProcesses() []int {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil
	}
	var pids []int
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil || pid == os.Getpid() {
			continue
		}
		line, err := os.ReadFile(filepath.Join("/proc", e.Name(), "cmdline"))
		if err == nil && bytes.Contains(line, []byte(n.dir()+"/")) {
			pids = append(pids, pid)
		}
	}
	return pids
}

// cgroupParent is what the node's containers' cgroups are below.
func (n *Node) cgroupParent() string { return "/" + n.lab.namespace(n.Name) }

// cgroups is the parent's folders: one in each hierarchy of cgroup v1, just one with v2.
func (n *Node) cgroups() []string {
	all, _ := filepath.Glob(filepath.Join("/sys/fs/cgroup/*", n.cgroupParent())) // the pattern is well-formed
	if one := filepath.Join("/sys/fs/cgroup", n.cgroupParent()); exists(one) {
		all = append(all, one)
	}
	return all
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

func processesIn(group string) []int {
	var pids []int
	_ = filepath.WalkDir(group, func(path string, d os.DirEntry, err error) error {
		if err != nil || d.Name() != "cgroup.procs" {
			return nil //nolint:nilerr // a group that vanishes while it is read has no processes
		}
		text, err := os.ReadFile(path)
		if err == nil {
			for field := range strings.FieldsSeq(string(text)) {
				if pid, err := strconv.Atoi(field); err == nil {
					pids = append(pids, pid)
				}
			}
		}
		return nil
	})
	return pids
}

func killEach(pids []int) error {
	var errs []error
	for _, pid := range pids {
		if err := syscall.Kill(pid, syscall.SIGKILL); err != nil && !errors.Is(err, syscall.ESRCH) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// removeCgroups removes the groups from the leaves up, and tells whether all are gone.
func (n *Node) removeCgroups(groups []string) bool {
	gone := true
	for _, g := range groups {
		var dirs []string
		_ = filepath.WalkDir(g, func(path string, d os.DirEntry, err error) error {
			if err == nil && d.IsDir() {
				dirs = append(dirs, path)
			}
			return nil
		})
		for _, dir := range slices.Backward(dirs) {
			if err := os.Remove(dir); err != nil {
				gone = false
			}
		}
	}
	return gone
}

// Docker runs the stock docker command line against the node and gives what it prints, and its exit code.
func (n *Node) Docker(ctx context.Context, args ...string) Result {
	return run(n.DockerCommand(ctx, args...))
}

// Shell runs a line of shell in the lab's directory, in which docker speaks to the node.
func (n *Node) Shell(ctx context.Context, line string) Result {
	cmd := exec.CommandContext(ctx, "sh", "-c", line)
	cmd.Dir = n.lab.Dir
	cmd.Env = append(os.Environ(), "DOCKER_HOST=unix://"+n.Socket(), "DOCKER_CONFIG="+filepath.Join(n.lab.Dir, "config"))
	return run(cmd)
}

// DockerCommand is a docker command that speaks to the node, to be run by the caller.
func (n *Node) DockerCommand(ctx context.Context, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, "docker", append([]string{"-H", "unix://" + n.Socket()}, args...)...)
	cmd.Env = append(os.Environ(), "DOCKER_CONFIG="+filepath.Join(n.lab.Dir, "config"))
	return cmd
}

// Result is what a command printed and how it ended.
type Result struct {
	Stdout, Stderr string
	Code           int
}

// Text is what a user sees, trimmed.
func (r Result) Text() string { return strings.TrimSpace(r.Stdout + r.Stderr) }

func run(cmd *exec.Cmd) Result {
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	err := cmd.Run()
	r := Result{Stdout: out.String(), Stderr: errs.String()}
	var exit *exec.ExitError
	switch {
	case errors.As(err, &exit):
		r.Code = exit.ExitCode()
	case err != nil:
		r.Code, r.Stderr = -1, r.Stderr+err.Error()
	}
	return r
}

func (n *Node) dialSocket(ctx context.Context, _, _ string) (net.Conn, error) {
	return (&net.Dialer{}).DialContext(ctx, "unix", n.Socket())
}
