package e2e

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/shoal-dev/shoal/test/lab"
)

// holds lists the files below a directory that have a text in them. Files that vanish meanwhile do not count.
func holds(t *testing.T, dir, text string) []string {
	t.Helper()
	var found []string
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		switch {
		case errors.Is(err, fs.ErrNotExist):
			return nil
		case err != nil:
			return err
		case d.Name() == "netns":
			return fs.SkipDir // network namespaces look like files and cannot be read
		case !d.Type().IsRegular():
			return nil
		}
		data, err := os.ReadFile(path)
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if bytes.Contains(data, []byte(text)) {
			found = append(found, path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

// A secret is in the task's memory and nowhere else in clear; replaced, it reaches the services that follow it.
func TestSecrets(t *testing.T) {
	t.Parallel()
	c := newCluster(t, "secrets")
	c.ok(c.n1, "node", "promote", "n2")
	const first, second = "hush-hush-2749-first", "hush-hush-2749-second"
	stdin := func(text string, args ...string) {
		t.Helper()
		if r := c.shoal(c.n1, text, args...); r.Code != 0 {
			t.Fatalf("%s: %s", strings.Join(args, " "), r.Text())
		}
	}
	stdin(first, "secret", "create", "pw", "-")
	stdin(`{{.Service.Name}}-{{.Task.Slot}}-{{.Node.Hostname}}`, "secret", "create", "--template-driver", "golang", "who", "-")
	stdin("conf {{.Service.Name}}", "config", "create", "--template-driver", "golang", "conf", "-")
	c.create(c.n1, "--name", "app", "--constraint", "node.hostname==n1", "--label", "shoal.follow=true",
		"--stop-grace-period", "100ms", "--update-monitor", "100ms",
		"--secret", "pw", "--secret", "source=pw,target=deep/er,uid=7,gid=8,mode=0440", "--secret", "who",
		"--config", "source=conf,target=/etc/app.conf,mode=0400", "busybox", "sleep", "1d")
	inTask := func(script string) string {
		t.Helper()
		return c.ok(c.n1, "exec", c.rows(c.n1, "ps", "-q", "--filter", "name=app.1")[0], "sh", "-c", script)
	}
	for script, want := range map[string]string{
		"cat /run/secrets/pw":                                first,
		"stat -c '%a %u %g' /run/secrets/pw":                 "444 0 0",
		"stat -c '%a %u %g' /run/secrets/deep/er":            "440 7 8",
		"cat /run/secrets/who":                               "app-1-n1",
		"cat /etc/app.conf; stat -c ' %a' /etc/app.conf":     "conf app 400",
		"stat -f -c %T /run/secrets/pw":                      "tmpfs",
		"(echo x >/run/secrets/pw) 2>/dev/null || echo shut": "shut",
	} {
		if got := inTask(script); got != want {
			t.Errorf("%s: %q, want %q", script, got, want)
		}
	}
	// In memory on n1; on no disk in clear, and not at all on nodes without a task that uses it.
	if in := holds(t, c.n1.ExecRoot(), first); len(in) != 2 || !strings.Contains(in[0], "/files/") {
		t.Errorf("in n1's exec root: %v", in)
	}
	for _, dir := range []string{c.n1.DataRoot(), c.n2.DataRoot(), c.n2.ExecRoot(), c.n3.DataRoot(), c.n3.ExecRoot()} {
		if in := holds(t, dir, first); len(in) > 0 {
			t.Errorf("in clear: %v", in)
		}
	}
	// The search does find what a manager stores in clear: names.
	for _, n := range []*lab.Node{c.n1, c.n2} {
		if in := holds(t, n.DataRoot(), "app.conf"); len(in) == 0 {
			t.Errorf("the store of %s was not found", n.Name)
		}
	}

	stdin(second, "secret", "update", "pw", "-")
	c.eventually(20*time.Second, "the follower has rolled", func() error {
		if state := c.ok(c.n1, "service", "inspect", "app", "--format", "{{with .UpdateStatus}}{{.State}}{{end}}"); state != "completed" {
			return fmt.Errorf("%s", state)
		}
		return nil
	})
	if got := inTask("cat /run/secrets/pw /run/secrets/deep/er"); got != second+second {
		t.Errorf("after the rotation: %q", got)
	}
	c.ok(c.n1, "service", "rollback", "-q", "app")
	if got := inTask("cat /run/secrets/pw"); got != first {
		t.Errorf("after the rollback: %q", got)
	}
	for _, n := range c.Nodes() {
		if in := append(holds(t, n.DataRoot(), first), holds(t, n.DataRoot(), second)...); len(in) > 0 {
			t.Errorf("in clear after the rotation: %v", in)
		}
	}

	c.ok(c.n1, "service", "update", "-q", "--label-rm", "shoal.follow", "app")
	if r := c.shoal(c.n1, "third", "secret", "update", "pw", "-"); r.Code != 1 || !strings.Contains(r.Stderr, "only updates to Labels are allowed") {
		t.Errorf("a service that does not follow: %+v", r)
	}
	c.ok(c.n1, "service", "rm", "app")
	c.eventually(10*time.Second, "the secret has left n1's memory", func() error {
		if in := holds(t, c.n1.ExecRoot(), "hush-hush"); len(in) > 0 {
			return fmt.Errorf("%v", in)
		}
		return nil
	})
}
