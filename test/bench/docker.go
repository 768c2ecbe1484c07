package bench

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/shoal-dev/shoal/test/lab"
)

// packages is Debian's Docker and what it needs. They are unpacked, not installed: nothing of them starts by itself.
func packages() []string {
	return []string{"docker.io", "containerd", "runc", "tini", "libdevmapper1.02.1"}
}

// fetchDocker unpacks Debian's Docker into a cache and returns where.
func fetchDocker(ctx context.Context, cache string) (string, error) {
	root := filepath.Join(cache, "root")
	if _, err := os.Stat(filepath.Join(root, "usr/sbin/dockerd")); err == nil {
		return root, nil
	}
	if err := os.MkdirAll(root, 0o755); err != nil {
		return "", err
	}
	get := exec.CommandContext(ctx, "apt-get", append([]string{"download", "-q"}, packages()...)...)
	get.Dir = cache
	if text, err := get.CombinedOutput(); err != nil {
		return "", fmt.Errorf("download Docker: %w: %s", err, text)
	}
	debs, _ := filepath.Glob(filepath.Join(cache, "*.deb")) // the pattern is well-formed
	for _, deb := range debs {
		if text, err := exec.CommandContext(ctx, "dpkg", "-x", deb, root).CombinedOutput(); err != nil {
			return "", fmt.Errorf("unpack %s: %w: %s", deb, err, text)
		}
	}
	return root, nil
}

// dockerNode is a dockerd in a network, host name and mount namespace of its own, so that its mounts end with it.
type dockerNode struct {
	*lab.Host
	dir    string
	cmd    *exec.Cmd
	exited chan struct{}
}

func (n *dockerNode) socket() string { return filepath.Join(n.dir, "docker.sock") }

func (n *dockerNode) cgroup() string { return "/shoal-bench-" + n.Name }

func startDocker(ctx context.Context, root string, host *lab.Host, dir string) (*dockerNode, error) {
	n := &dockerNode{Host: host, dir: dir, exited: make(chan struct{})}
	run := filepath.Join(dir, "run")
	if err := os.MkdirAll(run, 0o755); err != nil {
		return nil, err
	}
	if err := unix.Mount("tmpfs", run, "tmpfs", 0, "mode=755"); err != nil { // as /run is; the lab unmounts it
		return nil, fmt.Errorf("mount %s: %w", run, err)
	}
	log, err := os.Create(filepath.Join(dir, "log"))
	if err != nil {
		return nil, err
	}
	defer func() { _ = log.Close() }()
	n.cmd = exec.Command("nsenter", "--net="+host.Namespace(), "--", "unshare", "--uts", "--mount", "--propagation", "private", "--",
		"sh", "-c", `hostname "$0" && exec "$@"`, host.Name,
		filepath.Join(root, "usr/sbin/dockerd"), "--data-root", filepath.Join(dir, "data"), "--exec-root", run,
		"--pidfile", filepath.Join(dir, "pid"), "-H", "unix://"+n.socket(), "--iptables=false", "--ip6tables=false",
		"--cgroup-parent", n.cgroup(), "--storage-driver", "overlay2", "--config-file", filepath.Join(dir, "none.json"),
		"--bip", "172.17.0.1/16")
	if err := os.WriteFile(filepath.Join(dir, "none.json"), []byte("{}\n"), 0o600); err != nil {
		return nil, err
	}
	n.cmd.Env = append(os.Environ(), "PATH="+strings.Join([]string{
		filepath.Join(root, "usr/sbin"), filepath.Join(root, "usr/bin"), os.Getenv("PATH"),
	}, ":"), "LD_LIBRARY_PATH="+filepath.Join(root, "lib/x86_64-linux-gnu")+":"+filepath.Join(root, "usr/lib/x86_64-linux-gnu"))
	n.cmd.Stdout, n.cmd.Stderr = log, log
	n.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := n.cmd.Start(); err != nil {
		return nil, err
	}
	go func() { _ = n.cmd.Wait(); close(n.exited) }()
	e := dial(n.socket())
	err = until(ctx, func() (bool, error) {
		select {
		case <-n.exited:
			text, _ := os.ReadFile(log.Name()) // says why, if it can be read
			return false, fmt.Errorf("dockerd of %s has ended:\n%s", n.Name, text[max(0, len(text)-2000):])
		default:
			return e.call(ctx, "GET", "/info", nil, nil) == nil, nil
		}
	})
	return n, err
}

// processes is dockerd and its containerd.
func (n *dockerNode) processes() ([]int, error) {
	pids := []int{n.cmd.Process.Pid}
	text, err := os.ReadFile(filepath.Join(n.dir, "run/containerd/containerd.pid"))
	if err != nil {
		return nil, err
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(text)))
	return append(pids, pid), err
}

// stop ends the node, what runs on it, and removes its cgroups; mounts end with the namespace.
func (n *dockerNode) stop() error {
	pids, _ := n.processes() // whichever of them can be found
	const limit = 20 * time.Second
	if err := n.cmd.Process.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	select {
	case <-n.exited:
	case <-time.After(limit):
		for _, pid := range pids {
			_ = syscall.Kill(pid, syscall.SIGKILL)
		}
		<-n.exited
	}
	groups, _ := filepath.Glob("/sys/fs/cgroup/*" + n.cgroup()) // the pattern is well-formed
	var errs []error
	for _, g := range groups {
		if err := os.Remove(g); err != nil && !errors.Is(err, os.ErrNotExist) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}
