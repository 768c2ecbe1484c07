package e2e

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/shoal-dev/shoal/test/lab"
)

// newSingle makes a lab of one node.
func newSingle(t *testing.T, name string) *cluster {
	t.Helper()
	l, err := lab.New(fmt.Sprintf("%s%d", name, os.Getpid()), "", binary(t))
	if err != nil {
		t.Fatal(err)
	}
	c := &cluster{Lab: l, t: t}
	t.Cleanup(func() {
		if t.Failed() {
			c.dump()
		}
		if err := l.Close(); err != nil {
			t.Errorf("tear down: %v", err)
		}
	})
	if c.n1, err = l.AddNode("n1", 11); err != nil {
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

	c.startWith(n, `{"no-such-key": true, "dns": ["10.1.2.3"], "dns-search": ["a.example"], "dns-opts": ["ndots:3"], "default-shm-size": "32M", "default-ipc-mode": "shareable",
		"default-ulimits": {"nofile": {"Name": "nofile", "Soft": 1234, "Hard": 2345}}, "log-opts": {"max-size": "7m"}, "registry-mirrors": ["https://mirror.example"],
		"insecure-registries": ["10.9.0.0/16", "registry.example:5000"], "labels": ["a=b"], "default-network-opts": {"bridge": {"com.docker.network.driver.mtu": "1380"}},
		"host-gateway-ips": ["10.8.8.8"], "node-generic-resources": ["gpu=2"]}`,
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
		{"33554432 shareable 7m true", []string{"inspect", "one", "-f", `{{.HostConfig.ShmSize}} {{.HostConfig.IpcMode}} {{index .HostConfig.LogConfig.Config "max-size"}} {{.HostConfig.Init}}`}},
		{"127.0.0.1:8080", []string{"port", "one", "80"}},
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
	if got := c.ok(n, "events", "--since", "1m", "--until", "0s", "--filter", "type=daemon", "--filter", "event=reload", "--format", `{{.Actor.Attributes.labels}}`); got != `["c=d"]` {
		c.t.Errorf("events of the reload: %q", got)
	}
	if err := n.Configure(`{"labels": `, flags...); err != nil {
		c.t.Fatal(err)
	}
	labels("[c=d]")
	if got := c.ok(n, "inspect", "one", "-f", "{{.State.Running}}"); got != "true" {
		c.t.Errorf("after a bad file: %s", got)
	}
}
