package e2e

import (
	"bufio"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/moby/moby/api/types/swarm"
	"github.com/moby/moby/client"

	"github.com/shoal-dev/shoal/test/lab"
)

// syslogd collects what it is sent over a Unix socket.
func (c *cluster) syslogd() (address string, got *transcript) {
	c.t.Helper()
	path := filepath.Join(c.t.TempDir(), "syslog")
	var config net.ListenConfig
	l, err := config.Listen(c.t.Context(), "unix", path)
	if err != nil {
		c.t.Fatal(err)
	}
	c.t.Cleanup(func() { _ = l.Close() })
	got = &transcript{}
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				lines := bufio.NewScanner(conn)
				for lines.Scan() {
					_, _ = got.Write(append(lines.Bytes(), '\n'))
				}
			}()
		}
	}()
	return "unix://" + path, got
}

// allNumbers checks that each line ends in a number, that the numbers begin with 1, and that none is left out. Some may come again. It returns the highest.
func allNumbers(text string) (int, error) {
	highest := 0
	for line := range strings.Lines(text) {
		fields := strings.Fields(line)
		if len(fields) == 0 {
			return 0, errors.New("an empty line")
		}
		n, err := strconv.Atoi(fields[len(fields)-1])
		if err != nil || n > highest+1 {
			return 0, fmt.Errorf("after %d comes %q", highest, line)
		}
		highest = max(highest, n)
	}
	return highest, nil
}

// logDrivers runs containers with other log drivers than json-file.
func (c *cluster) logDrivers(n *lab.Node) {
	c.t.Helper()
	if got := c.ok(n, "info", "-f", "{{.Plugins.Log}}"); got != "[fluentd gelf journald json-file local syslog]" {
		c.t.Errorf("log drivers: %s", got)
	}
	address, got := c.syslogd()
	run := func(args ...string) []string { return append([]string{"run", "--network", "none"}, args...) }
	for _, refused := range []struct {
		want string
		args []string
	}{
		{`error looking up logging plugin x: plugin "x" not found`, []string{"--log-driver", "x"}},
		{`unknown log opt 'a' for json-file log driver`, []string{"--log-opt", "a=b"}},
		{`gelf-address is a required parameter`, []string{"--log-driver", "gelf"}},
		{`failed to create task for container: failed to initialize logging driver: invalid size: 'x'`, []string{"--log-opt", "max-size=x"}},
		{`failed to create task for container: failed to initialize logging driver: dial tcp 127.0.0.1:1: connect: connection refused`,
			[]string{"--log-driver", "fluentd", "--log-opt", "fluentd-address=127.0.0.1:1"}},
	} {
		c.refused(n, 125, refused.want, run(append(refused.args, "--rm", "busybox", "true")...)...)
	}
	c.ok(n, run("--name", "details", "--label", "tier=front", "-e", "COLOUR=light red", "--log-opt", "labels=tier", "--log-opt", "env=COLOUR", "--log-opt", "tag={{.Name}}", "busybox", "echo", "hello")...)
	if got := c.ok(n, "logs", "--details", "details"); got != "COLOUR=light+red,tag=details,tier=front hello" {
		c.t.Errorf("details: %q", got)
	}
	c.ok(n, run("--name", "blind", "--log-driver", "syslog", "--log-opt", "syslog-address="+address, "--log-opt", "cache-disabled=true", "busybox", "echo", "unseen", "0")...)
	c.refused(n, 1, "configured logging driver does not support reading", "logs", "blind")
	c.eventually(10*time.Second, "the line is with the driver", func() error {
		if !strings.Contains(got.String(), "unseen 0") {
			return fmt.Errorf("%q", got)
		}
		return nil
	})
	c.ok(n, "rm", "details", "blind")
	c.noLineIsLostWithTheDaemon(n)
}

// noLineIsLostWithTheDaemon kills the daemon while a container prints all the time, to a log driver that keeps lines elsewhere.
func (c *cluster) noLineIsLostWithTheDaemon(n *lab.Node) {
	c.t.Helper()
	const many = 100_000
	address, got := c.syslogd()
	c.ok(n, "run", "-d", "--network", "none", "--name", "printer", "--log-driver", "syslog", "--log-opt", "syslog-address="+address, "--log-opt", "tag={{.Name}}", "busybox",
		"sh", "-c", fmt.Sprintf("i=0; while [ $i -lt %d ]; do i=$((i+1)); echo $i; done; sleep 600", many))
	reaches := func(least int) {
		c.t.Helper()
		c.eventually(60*time.Second, fmt.Sprint("the driver has line ", least), func() error {
			text := got.String()
			if end := strings.LastIndexByte(text, '\n'); end >= 0 {
				text = text[:end]
			}
			at, err := strconv.Atoi(text[strings.LastIndexByte(text, ' ')+1:])
			if err != nil || at < least {
				return fmt.Errorf("%d lines, %w", at, err)
			}
			return nil
		})
	}
	for _, at := range []int{1, many / 4, many / 2} {
		reaches(at)
		if err := errors.Join(n.Kill(), n.Start()); err != nil {
			c.t.Fatal(err)
		}
	}
	reaches(many)
	for what, text := range map[string]string{"sent": got.String(), "docker logs": c.docker(n, "logs", "printer").Stdout, "json-file": c.printsFasterThanItIsLogged(n)} {
		last, err := allNumbers(text)
		if err != nil || last < many {
			c.t.Errorf("%s: up to %d, %v", what, last, err)
		}
		if again := strings.Count(text, "\n") - last; err == nil && again > 0 {
			c.t.Logf("%s: %d lines twice", what, again)
		}
	}
	c.ok(n, "rm", "-f", "printer")
}

// printsFasterThanItIsLogged kills the daemon while it does nothing but log, and returns the log.
func (c *cluster) printsFasterThanItIsLogged(n *lab.Node) string {
	c.t.Helper()
	const many = 1_000_000
	id := c.ok(n, "run", "-d", "--network", "none", "--log-opt", "max-size=1g", "busybox", "sh", "-c", fmt.Sprintf("seq 1 %d; sleep 600", many))
	path := c.ok(n, "inspect", id, "-f", "{{.LogPath}}")
	size := func() int64 {
		info, err := os.Stat(path)
		if err != nil {
			return 0
		}
		return info.Size()
	}
	for range 4 {
		before := size()
		c.eventually(30*time.Second, "the log grows", func() error {
			if size() <= before {
				return errors.New("it does not")
			}
			return nil
		})
		if err := errors.Join(n.Kill(), n.Start()); err != nil {
			c.t.Fatal(err)
		}
	}
	c.eventually(60*time.Second, "all is logged", func() error {
		if got := c.ok(n, "logs", "--tail", "1", id); got != strconv.Itoa(many) {
			return errors.New(got)
		}
		return nil
	})
	text := c.docker(n, "logs", id).Stdout
	c.ok(n, "rm", "-f", id)
	return text
}

// defaultLogDriver gives the cluster a log driver for tasks that name none.
func (c *cluster) defaultLogDriver(n *lab.Node) {
	c.t.Helper()
	api := c.api(n)
	defer func() { _ = api.Close() }()
	found, err := api.SwarmInspect(c.t.Context(), client.SwarmInspectOptions{})
	if err != nil {
		c.t.Fatal(err)
	}
	spec := found.Swarm.Spec
	spec.TaskDefaults.LogDriver = &swarm.Driver{Name: "local", Options: map[string]string{"max-file": "7"}}
	if _, err := api.SwarmUpdate(c.t.Context(), client.SwarmUpdateOptions{Version: found.Swarm.Version, Spec: spec}); err != nil {
		c.t.Fatal(err)
	}
	c.ok(n, "service", "create", "-q", "--name", "own", "--log-driver", "json-file", "busybox", "sleep", "600")
	c.ok(n, "service", "create", "-q", "--name", "default", "busybox", "sleep", "600")
	for service, want := range map[string]string{"own": "json-file <no value>", "default": "local 7"} {
		id := c.ok(n, "ps", "-q", "--filter", "label=com.docker.swarm.service.name="+service)
		if got := c.ok(n, "inspect", id, "-f", `{{.HostConfig.LogConfig.Type}} {{with index .HostConfig.LogConfig.Config "max-file"}}{{.}}{{else}}<no value>{{end}}`); got != want {
			c.t.Errorf("%s logs to %q, want %q", service, got, want)
		}
	}
}
