package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// What tasks store outlives them where it should, is filled from the image as Docker fills it, and is refused in Docker's words.
func TestStorage(t *testing.T) {
	t.Parallel()
	c := newCluster(t, "storage")
	create := func(name string, args ...string) {
		t.Helper()
		c.create(c.n1, append([]string{"--name", name, "--stop-grace-period", "100ms"}, args...)...)
	}
	onN2 := []string{"--constraint", "node.labels.data==yes"}
	c.ok(c.n1, "node", "update", "--label-add", "data=yes", "n2")
	inTask := func(service, script string) string {
		t.Helper()
		return c.ok(c.n2, "exec", c.rows(c.n2, "ps", "-q", "--filter", "name="+service+".1")[0], "sh", "-c", script)
	}

	create("copied", append(onN2, "--mount", "type=volume,source=filled,target=/etc/nginx", "nginx")...)
	create("plain", append(onN2, "--mount", "type=volume,source=empty,target=/var/lib,volume-nocopy", "--mount", "type=volume,source=bare,target=/etc/nginx,volume-nocopy",
		"busybox", "sleep", "1d")...)
	if got := c.ok(c.n2, "run", "--rm", "-v", "filled:/v", "busybox", "ls", "/v"); !strings.Contains(got, "nginx.conf") {
		t.Errorf("a new volume holds %q", got)
	}
	if got := c.ok(c.n2, "run", "--rm", "-v", "bare:/v", "busybox", "ls", "/v"); got != "" {
		t.Errorf("with volume-nocopy a new volume holds %q", got)
	}

	create("db", append(onN2, "--mount", "type=volume,source=data,target=/data", "busybox", "sleep", "1d")...)
	inTask("db", "echo precious >/data/f")
	c.ok(c.n1, "service", "rm", "db")
	c.eventually(30*time.Second, "the task is gone", func() error {
		if left := c.ok(c.n2, "ps", "-aq", "--filter", "name=db."); left != "" {
			return fmt.Errorf("%s", left)
		}
		return nil
	})
	create("db", append(onN2, "--mount", "type=volume,source=data,target=/data", "busybox", "sleep", "1d")...)
	if got := inTask("db", "cat /data/f"); got != "precious" {
		t.Errorf("the service came back to %q", got)
	}
	c.refused(c.n2, 1, `remove data: volume is in use - \[[0-9a-f]{64}\]`, "volume", "rm", "data")

	missing := filepath.Join(t.TempDir(), "missing")
	const words = `invalid mount config for type "bind": bind source path does not exist: `
	c.refused(c.n2, 125, words+missing, "run", "--mount", "type=bind,source="+missing+",target=/x", "busybox", "true")
	c.ok(c.n1, append([]string{"service", "create", "-d", "--no-resolve-image", "--name", "unbound", "--restart-delay", "200ms", "--mount", "type=bind,source=" + missing + ",target=/x"},
		append(onN2, "busybox", "sleep", "1d")...)...)
	c.eventually(10*time.Second, "the task says what is missing", func() error {
		row := c.rows(c.n1, "service", "ps", "unbound", "--no-trunc", "--format", "{{.CurrentState}} {{.Error}}")
		if !strings.HasPrefix(row[len(row)-1], "Rejected") || !strings.Contains(row[len(row)-1], words+missing) {
			return fmt.Errorf("%q", row)
		}
		return nil
	})
	if err := os.Mkdir(missing, 0o755); err != nil {
		t.Fatal(err)
	}
	c.eventually(30*time.Second, "the task runs once the path is there", func() error { return c.running("unbound", 1) })

	c.ok(c.n2, "volume", "create", "--opt", "type=tmpfs", "--opt", "device=tmpfs", "--opt", "o=size=2m,uid=33", "mem")
	if got := c.ok(c.n2, "run", "--rm", "-v", "mem:/m", "busybox", "sh", "-c", "stat -f -c %T /m; stat -c %u /m"); got != "tmpfs\n33" {
		t.Errorf("a volume of tmpfs: %q", got)
	}
	create("memory", append(onN2, "--mount", "type=tmpfs,target=/t,tmpfs-size=1m,tmpfs-mode=0750", "busybox", "sleep", "1d")...)
	if got := inTask("memory", "stat -f -c %T /t; stat -c %a /t"); got != "tmpfs\n750" {
		t.Errorf("a tmpfs mount: %q", got)
	}

	// Prune takes the anonymous ones only, with -a all that nobody uses.
	c.ok(c.n2, "run", "--name", "anon", "-v", "/anon", "busybox", "true")
	c.ok(c.n2, "rm", "anon")
	names := func() string { return strings.Join(c.rows(c.n2, "volume", "ls", "--format", "{{.Name}}"), " ") }
	c.ok(c.n2, "volume", "prune", "-f")
	if got := names(); got != "bare data empty filled mem" {
		t.Errorf("after prune: %s", got)
	}
	c.ok(c.n1, "service", "rm", "plain")
	c.eventually(10*time.Second, "what nobody uses is pruned with -a", func() error {
		c.ok(c.n2, "volume", "prune", "-af")
		if got := names(); got != "data filled" {
			return fmt.Errorf("%s", got)
		}
		return nil
	})
}
