package e2e

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/shoal-dev/shoal/test/images"
	"github.com/shoal-dev/shoal/test/lab"
)

// newSingle makes a lab of one node.
func newSingle(t *testing.T, name string) *cluster {
	t.Helper()
	c := emptyLab(t, name)
	var err error
	if c.n1, err = c.AddNode("n1", 11); err != nil {
		t.Fatal(err)
	}
	c.loadImages(c.n1)
	return c
}

// startWith starts the node's daemon anew with a configuration file and flags.
func (c *cluster) startWith(n *lab.Node, file string, flags ...string) {
	c.t.Helper()
	if err := errors.Join(n.Stop(), n.Configure(file, flags...), n.Start()); err != nil {
		c.t.Fatal(err)
	}
}

// Most of dockerd's flags and keys were errors, SIGHUP ended the daemon, and what containers and networks get by default could not be set.
func TestTheDaemonFollowsItsSettings(t *testing.T) {
	t.Parallel()
	c := newSingle(t, "settings")
	n := c.n1
	if got := c.ok(n, "plugin", "ls"); !strings.HasPrefix(got, "ID ") || strings.Contains(got, "\n") {
		t.Errorf("plugin ls: %q", got)
	}
	c.refused(n, 1, `Error response from daemon: plugin "vieux/sshfs" not found`, "plugin", "inspect", "vieux/sshfs")
	listening := func() string {
		return c.inside(n.Namespace(), "ss", "-Hlnu")
	}
	if got := listening(); strings.Contains(got, ":7946") {
		t.Errorf("outside a swarm the daemon listens: %s", got)
	}

	other := c.otherRuntime()
	c.startWith(n, `{"no-such-key": true, "dns": ["10.1.2.3"], "dns-search": ["a.example"], "dns-opts": ["ndots:3"], "default-shm-size": "32M", "default-ipc-mode": "shareable",
		"default-ulimits": {"nofile": {"Name": "nofile", "Soft": 1234, "Hard": 2345}}, "log-opts": {"max-size": "7m"}, "registry-mirrors": ["https://mirror.example"],
		"insecure-registries": ["10.9.0.0/16", "registry.example:5000"], "labels": ["a=b"], "default-network-opts": {"bridge": {"com.docker.network.driver.mtu": "1380"}},
		"host-gateway-ips": ["10.8.8.8"], "node-generic-resources": ["gpu=2"], "features": {"buildkit": false}, "builder": {"gc": {"defaultKeepStorage": "1GB"}},
		"max-concurrent-downloads": 1, "runtimes": {"other": {"path": "`+other+`", "runtimeArgs": ["--debug"]}}}`,
		"--init", "--bip", "10.55.0.1/24", "--fixed-cidr", "10.55.0.128/25", "--mtu", "1390", "--icc=false", "--ip", "127.0.0.1", "--swarm-default-advertise-addr", n.Addr, "--iptables=false",
		"--userland-proxy=false", "--containerd", "/run/containerd/containerd.sock")
	c.ok(n, "run", "-d", "--name", "one", "-p", "8080:80", "--add-host", "gw:host-gateway", "busybox", "sleep", "600")
	for _, check := range []struct {
		want string
		args []string
	}{
		{"10.55.0.128", []string{"inspect", "one", "-f", "{{.NetworkSettings.Networks.bridge.IPAddress}}"}},
		{"1390", []string{"exec", "one", "cat", "/sys/class/net/eth0/mtu"}},
		{"nameserver 10.1.2.3\nsearch a.example\noptions ndots:3", []string{"exec", "one", "cat", "/etc/resolv.conf"}},
		{"10.8.8.8\tgw", []string{"exec", "one", "grep", "gw", "/etc/hosts"}},
		{"1234", []string{"exec", "one", "sh", "-c", "ulimit -n"}},
		{"/sbin/docker-init -- sleep 600", []string{"exec", "one", "sh", "-c", "tr '\\0' ' ' < /proc/1/cmdline"}},
		{"33554432 shareable 7m <nil>", []string{"inspect", "one", "-f", `{{.HostConfig.ShmSize}} {{.HostConfig.IpcMode}} {{index .HostConfig.LogConfig.Config "max-size"}} {{.HostConfig.Init}}`}},
		{"127.0.0.1:8080", []string{"port", "one", "80"}},
		{other + " [--debug]", []string{"info", "-f", "{{.Runtimes.other.Path}} {{.Runtimes.other.Args}}"}},
		{"within", []string{"run", "--rm", "--runtime", "other", "busybox", "echo", "within"}},
		{"[a=b] [https://mirror.example/] true", []string{"info", "-f", "{{.Labels}} {{.RegistryConfig.Mirrors}} {{.LiveRestoreEnabled}}"}},
	} {
		if got := c.ok(n, check.args...); !strings.Contains(got, check.want) {
			t.Errorf("%q: %q, want %q", check.args, got, check.want)
		}
	}
	warnings := c.ok(n, "info", "-f", "{{.Warnings}}")
	for _, want := range []string{"no-such-key", "iptables has no effect", "containerd has no effect"} {
		if !strings.Contains(warnings, want) {
			t.Errorf("warnings without %q: %s", want, warnings)
		}
	}
	c.ok(n, "network", "create", "net")
	if got := c.ok(n, "network", "inspect", "net", "-f", "{{.Options}}"); !strings.Contains(got, "mtu:1380") {
		t.Errorf("options of a new network: %s", got)
	}

	c.refused(n, 1, "Error response from daemon: unknown or invalid runtime name: nosuch", "create", "--runtime", "nosuch", "busybox")
	if text, err := os.ReadFile(other + ".calls"); err != nil || !strings.Contains(string(text), "--debug --root ") {
		t.Errorf("calls of another runtime: %s, %v", text, err)
	}
	// Containers do not talk to each other (--icc=false), save by a link.
	c.ok(n, "run", "-d", "--name", "store", "--expose", "80", "nginx")
	addr := c.ok(n, "inspect", "store", "-f", "{{.NetworkSettings.Networks.bridge.IPAddress}}")
	c.eventually(20*time.Second, "the link's target answers", func() error {
		if r := c.docker(n, "run", "--rm", "--link", "store:web", "busybox", "timeout", "5", "wget", "-qO-", "http://"+addr+"/"); r.Code != 0 {
			return errors.New(r.Text())
		}
		return nil
	})
	if r := c.docker(n, "run", "--rm", "busybox", "timeout", "5", "wget", "-qO-", "http://"+addr+"/"); r.Code == 0 {
		t.Errorf("a container without a link reaches %s", r.Text())
	}
	c.ok(n, "rm", "-f", "store")
	c.logDrivers(n)
	c.reloadsSettings(n)

	// A swarm's member, and nobody else, listens for probes.
	c.ok(n, "swarm", "init")
	if got := c.ok(n, "info", "-f", "{{.Swarm.NodeAddr}}"); got != n.Addr {
		t.Errorf("advertised: %s", got)
	}
	if got := c.ok(n, "node", "inspect", "self", "-f", "{{(index .Description.Resources.GenericResources 0).DiscreteResourceSpec.Value}}"); got != "2" {
		t.Errorf("generic resources: %s", got)
	}
	if got := listening(); !strings.Contains(got, ":7946") {
		t.Errorf("in a swarm: %s", got)
	}
	c.defaultLogDriver(n)
	c.ok(n, "swarm", "leave", "--force")
	if got := listening(); strings.Contains(got, ":7946") {
		t.Errorf("after leaving: %s", got)
	}

	// Without live-restore, containers end with the daemon; those that outlive one that was killed end at its next start.
	c.startWith(n, `{"live-restore": false}`)
	status := func(name, want string) {
		t.Helper()
		c.eventually(20*time.Second, name+" is "+want, func() error {
			if got := c.ok(n, "inspect", name, "-f", "{{.State.Status}}"); got != want {
				return errors.New(got)
			}
			return nil
		})
	}
	status("one", "exited")
	c.ok(n, "run", "-d", "--name", "two", "--stop-signal", "KILL", "busybox", "sleep", "600")
	c.ok(n, "run", "-d", "--name", "again", "--stop-signal", "KILL", "--restart", "unless-stopped", "busybox", "sleep", "600")
	pid := c.ok(n, "inspect", "two", "-f", "{{.State.Pid}}")
	if err := n.Stop(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat("/proc/" + pid); err == nil {
		t.Error("the container outlives the daemon")
	}
	if err := n.Start(); err != nil {
		t.Fatal(err)
	}
	status("two", "exited")
	status("again", "running")
	c.ok(n, "start", "two")
	pid = c.ok(n, "inspect", "again", "-f", "{{.State.Pid}}")
	if err := errors.Join(n.Kill(), n.Start()); err != nil {
		t.Fatal(err)
	}
	status("two", "exited")
	status("again", "running")
	if now := c.ok(n, "inspect", "again", "-f", "{{.State.Pid}}"); now == pid {
		t.Error("a container has outlived the daemon that was killed")
	}

	// Without a default bridge, containers have no network.
	c.startWith(n, "", "--bridge", "none")
	if got := c.ok(n, "run", "--rm", "busybox", "ls", "/sys/class/net"); got != "lo" {
		t.Errorf("interfaces without a default bridge: %q", got)
	}
}

// otherRuntime is a program that runs runc and notes what it is called with.
func (c *cluster) otherRuntime() string {
	c.t.Helper()
	programs, err := filepath.Glob(filepath.Join(c.n1.DataRoot(), "containerd", "programs", "*", "runc"))
	if err != nil || len(programs) == 0 {
		c.t.Fatalf("the node's runc: %q, %v", programs, err)
	}
	path := filepath.Join(c.t.TempDir(), "other")
	script := "#!/bin/sh\necho \"$@\" >> " + path + ".calls\nexec " + programs[0] + " \"$@\"\n"
	if err := os.WriteFile(path, []byte(script), 0o700); err != nil { //nolint:gosec // a program
		c.t.Fatal(err)
	}
	return path
}

// A second daemon in a network namespace tore down what the first one had made, every second, and the other way round; and neither started while another program
// had port 7946.
func TestTwoDaemonsInOneNamespace(t *testing.T) {
	t.Parallel()
	c := newSingle(t, "two")
	dir := t.TempDir()
	socket, output := "unix://"+dir+"/s", dir+"/log"
	log, err := os.Create(output)
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	second := exec.Command("nsenter", "--net="+c.n1.Namespace(), "--", c.Binary, "daemon", "--data-root", dir+"/data", "--exec-root", dir+"/run", "--pidfile", dir+"/pid", "-H", socket,
		"--config-file", "/dev/null", "--live-restore=false")
	second.Stdout, second.Stderr = log, log
	if err := second.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- second.Wait() }()
	defer func() {
		_ = second.Process.Signal(syscall.SIGTERM)
		select {
		case err := <-ended:
			if err != nil {
				t.Errorf("the second daemon: %v", err)
			}
		case <-time.After(30 * time.Second):
			t.Error("the second daemon does not end")
		}
		for _, m := range mountsBelow(t, dir) {
			_ = unix.Unmount(m, unix.MNT_DETACH)
		}
	}()
	docker := func(args ...string) (string, error) {
		out, err := exec.CommandContext(t.Context(), "docker", append([]string{"-H", socket}, args...)...).CombinedOutput()
		return strings.TrimSpace(string(out)), err
	}
	c.eventually(60*time.Second, "the second daemon answers", func() error {
		_, err := docker("version")
		return err
	})
	archives, err := images.Build(t.Context(), images.CacheDir())
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range archives {
		if out, err := docker("load", "-q", "-i", a); err != nil {
			t.Fatalf("load: %s", out)
		}
	}
	for _, run := range []func(args ...string) (string, error){docker, func(args ...string) (string, error) { return c.ok(c.n1, args...), nil }} {
		for _, args := range [][]string{{"network", "create", "net"}, {"run", "-d", "--name", "aa", "--network", "net", "busybox", "sleep", "600"}, {"run", "-d", "--name", "bb", "busybox", "sleep", "600"}} {
			if out, err := run(args...); err != nil {
				t.Fatalf("%q: %s", args, out)
			}
		}
	}
	// The first one is started anew, and so compares everything; then both have looked for changes at least once.
	c.restart(c.n1)
	c.ok(c.n1, "run", "--rm", "busybox", "sleep", "3")
	for _, name := range []string{"aa", "bb"} {
		network := map[string]string{"aa": "net", "bb": "bridge"}[name]
		format := "{{.NetworkSettings.Networks." + network + ".Gateway}}"
		gateway, err := docker("inspect", name, "-f", format)
		if out, pinged := docker("exec", name, "ping", "-c1", "-W2", gateway); err != nil || pinged != nil {
			t.Errorf("%s of the second daemon: %v %s", name, err, out)
		}
		c.ok(c.n1, "exec", name, "ping", "-c1", "-W2", c.ok(c.n1, "inspect", name, "-f", format))
	}
	for _, file := range []string{output, c.n1.Log()} {
		if text, err := os.ReadFile(file); err != nil || strings.Contains(string(text), "was changed by others") {
			t.Errorf("the daemon of %s has seen changes by the other: %v", file, err)
		}
	}
	// Whoever is first in a swarm has the port.
	if out, err := docker("swarm", "init", "--advertise-addr", c.n1.Addr); err != nil {
		t.Fatalf("swarm init: %s", out)
	}
	c.refused(c.n1, 1, `.*7946.*address already in use: the nodes of a swarm probe one another at this UDP port; free it, or start the daemon with another --probe-port`, "swarm", "init", "--advertise-addr", c.n1.Addr+":2399", "--listen-addr", "0.0.0.0:2399")
	if got := c.ok(c.n1, "info", "-f", "{{.Swarm.LocalNodeState}}"); got != "inactive" {
		t.Errorf("after the refusal: %s", got)
	}
	if out, err := docker("swarm", "leave", "--force"); err != nil {
		t.Errorf("swarm leave: %s", out)
	}
	for _, args := range [][]string{{"rm", "-f", "aa", "bb"}, {"network", "rm", "net"}} {
		if out, err := docker(args...); err != nil {
			t.Errorf("%q: %s", args, out)
		}
		c.ok(c.n1, args...)
	}
}

// mountsBelow is the mount points below a directory, the innermost first.
func mountsBelow(t *testing.T, dir string) []string {
	t.Helper()
	text, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for line := range strings.Lines(string(text)) {
		if f := strings.Fields(line); len(f) > 4 && strings.HasPrefix(f[4], dir+"/") {
			out = append(out, f[4])
		}
	}
	slices.Reverse(out)
	return out
}

// reloadsSettings lets the daemon read its settings anew: good ones, and bad ones.
func (c *cluster) reloadsSettings(n *lab.Node) {
	c.t.Helper()
	flags := n.Flags()
	labels := func(want string) {
		c.t.Helper()
		if err := n.Hangup(); err != nil {
			c.t.Fatal(err)
		}
		c.eventually(10*time.Second, "labels are "+want, func() error {
			if got := c.ok(n, "info", "-f", "{{.Labels}}"); got != want {
				return errors.New(got)
			}
			return nil
		})
	}
	if err := n.Configure(`{"labels": ["c=d"], "registry-mirrors": ["https://other.example"]}`, flags...); err != nil {
		c.t.Fatal(err)
	}
	labels("[c=d]")
	c.eventually(10*time.Second, "the event of the reload", func() error {
		got := c.ok(n, "events", "--since", "1m", "--until", "0s", "--filter", "type=daemon", "--filter", "event=reload", "--format", `{{.Actor.Attributes.labels}}`)
		if got != `["c=d"]` {
			return errors.New(got)
		}
		return nil
	})
	if err := n.Configure(`{"labels": `, flags...); err != nil {
		c.t.Fatal(err)
	}
	labels("[c=d]")
	if got := c.ok(n, "inspect", "one", "-f", "{{.State.Running}}"); got != "true" {
		c.t.Errorf("after a bad file: %s", got)
	}
}
