package e2e

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// Builds have a network as containers do, and a daemon that is killed in one leaves nothing that its next start does not remove.
func TestBuilds(t *testing.T) {
	t.Parallel()
	c := newSingle(t, "build")
	n := c.n1
	context := func(dockerfile string) string {
		t.Helper()
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, "Dockerfile"), []byte(dockerfile), 0o600); err != nil {
			t.Fatal(err)
		}
		return dir
	}
	c.ok(n, "system", "df")
	if _, err := os.Stat(filepath.Join(n.DataRoot(), "buildkit")); err == nil {
		t.Error("BuildKit has started before the first build")
	}

	c.ok(n, "run", "-d", "--name", "web", "nginx")
	web := c.ok(n, "inspect", "web", "-f", "{{.NetworkSettings.Networks.bridge.IPAddress}}")
	c.eventually(20*time.Second, "the web server answers", func() error {
		if r := c.docker(n, "run", "--rm", "busybox", "wget", "-qO-", "http://"+web+"/"); r.Code != 0 {
			return errors.New(r.Text())
		}
		return nil
	})
	c.ok(n, "build", "-t", "fetched", "--build-arg", "WEB="+web, context("FROM busybox\nARG WEB\nRUN wget -qO /page http://$WEB/ && cp /etc/resolv.conf /names\n"))
	inBuild, inContainer := c.ok(n, "run", "--rm", "fetched", "cat", "/names"), c.ok(n, "run", "--rm", "busybox", "cat", "/etc/resolv.conf")
	if inBuild != inContainer {
		t.Errorf("resolv.conf in a build: %q, in a container: %q", inBuild, inContainer)
	}
	if got := c.ok(n, "run", "--rm", "fetched", "cat", "/page"); !strings.Contains(got, "<html>") {
		t.Errorf("a build has fetched %q", got)
	}
	c.ok(n, "build", "--network", "host", "-t", "inhost", context("FROM busybox\nRUN test -e /sys/class/net/lo && ls /sys/class/net > /nets\n"))
	c.refused(n, 7, "The command '/bin/sh -c exit 7' returned a non-zero code: 7", "build", context("FROM busybox\nRUN exit 7\n"))

	seconds := fmt.Sprint(500000 + os.Getpid())
	cut := make(chan struct{})
	slow := context("FROM busybox\nRUN sleep " + seconds + "\n")
	go func() {
		defer close(cut)
		c.docker(n, "build", slow)
	}()
	running := func() bool {
		files, _ := filepath.Glob("/proc/[0-9]*/cmdline") // fails for malformed patterns only
		for _, f := range files {
			if text, err := os.ReadFile(f); err == nil && string(text) == "sleep\x00"+seconds+"\x00" {
				return true
			}
		}
		return false
	}
	c.eventually(60*time.Second, "the step runs", func() error {
		if !running() {
			return errors.New("it does not")
		}
		return nil
	})
	if err := n.Kill(); err != nil {
		t.Fatal(err)
	}
	<-cut
	if err := n.Start(); err != nil {
		t.Fatal(err)
	}
	c.eventually(20*time.Second, "the step is gone", func() error {
		left, _ := filepath.Glob(filepath.Join(n.ExecRoot(), "build", "*", "*"))
		if running() || len(left) > 0 {
			return fmt.Errorf("process: %v, files: %v", running(), left)
		}
		return nil
	})
	if got := c.inside(n.Namespace(), "cat", "/proc/mounts"); strings.Contains(got, filepath.Join(n.ExecRoot(), "build")) {
		t.Errorf("mounts that are left: %s", got)
	}
	c.ok(n, "build", "-t", "after", "--build-arg", "WEB="+web, context("FROM fetched AS one\nRUN cp /page /again\nFROM busybox\nCOPY --from=one /again /\n"))
	if got := c.ok(n, "run", "--rm", "after", "cat", "/again"); !strings.Contains(got, "<html>") {
		t.Errorf("a build of two images has copied %q", got)
	}
	c.ok(n, "rm", "-f", "web")
	if got := c.ok(n, "builder", "prune", "-af"); !strings.Contains(got, "Total reclaimed space") {
		t.Errorf("prune: %s", got)
	}
}
