package engine

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	testimages "github.com/shoal-dev/shoal/test/images"
)

// step is a command of the docker CLI, and what is expected of it.
type step struct {
	args []string
	want string // a part of what is printed
	code int
}

// words splits a command at spaces; '_' stands for a space within a word.
func words(line string) []string {
	args := strings.Fields(line)
	for i := range args {
		args[i] = strings.ReplaceAll(args[i], "_", " ")
	}
	return args
}

// expect runs the steps one after the other.
func (h *dockerHost) expect(steps []step) {
	h.t.Helper()
	for _, s := range steps {
		out, code := h.docker("", s.args...)
		if code != s.code || !strings.Contains(strings.ReplaceAll(out, "\r", ""), s.want) {
			h.t.Errorf("docker %s: exit %d, want %d and %q\n%s", strings.Join(s.args, " "), code, s.code, s.want, indent(out))
		}
	}
}

// loadBusybox gives the host the image that most tests run.
func (h *dockerHost) loadBusybox() {
	h.t.Helper()
	paths, err := testimages.Build(h.t.Context(), testimages.CacheDir())
	if err != nil {
		h.t.Fatal(err)
	}
	h.expect([]step{{args: []string{"load", "-i", paths["busybox"]}, want: "busybox:latest"}})
}

// post sends a request and returns the answer.
func (h *dockerHost) post(path, body string) map[string]any {
	h.t.Helper()
	client := http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", h.socket)
	}}}
	defer client.CloseIdleConnections()
	request, err := http.NewRequestWithContext(h.t.Context(), http.MethodPost, "http://docker"+path, strings.NewReader(body))
	if err != nil {
		h.t.Fatal(err)
	}
	request.Header.Set("Content-Type", "application/json")
	response, err := client.Do(request)
	if err != nil {
		h.t.Fatal(err)
	}
	defer response.Body.Close()
	answer := map[string]any{}
	if err := json.NewDecoder(response.Body).Decode(&answer); err != nil && !errors.Is(err, io.EOF) {
		h.t.Fatal(err)
	}
	return answer
}

// mountTmpfs mounts a file system below dir for the time of the test, with one file in it.
func mountTmpfs(t *testing.T, dir, propagation string) {
	t.Helper()
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, ""); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Unmount(dir, unix.MNT_DETACH) })
	flag := uintptr(unix.MS_PRIVATE)
	if propagation == "shared" {
		flag = unix.MS_SHARED
	}
	if err := unix.Mount("", dir, "", flag, ""); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "seen"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
}

// A read-only bind left what is mounted below its source writable.
func TestAReadOnlyBindIsReadOnlyBelow(t *testing.T) {
	h := newDockerHost(t)
	h.loadBusybox()
	dir := t.TempDir()
	mountTmpfs(t, filepath.Join(dir, "sub"), "private")
	bind := func(options string, command ...string) []string {
		return append([]string{"run", "--rm", "--mount", "type=bind,src=" + dir + ",dst=/m" + options, "busybox"}, command...)
	}
	h.expect([]step{
		{args: []string{"run", "--rm", "-v", dir + ":/m:ro", "busybox", "touch", "/m/sub/f"}, want: "Read-only file system", code: 1},
		{args: []string{"run", "--rm", "-v", dir + ":/m", "busybox", "touch", "/m/sub/f"}},
		{args: bind(",readonly", "touch", "/m/sub/f"), want: "Read-only file system", code: 1},
		{args: bind(",readonly,bind-recursive=writable", "touch", "/m/sub/f")},
		{args: bind(",readonly,bind-recursive=writable", "touch", "/m/f"), want: "Read-only file system", code: 1},
		{args: bind(",readonly,bind-recursive=readonly,bind-propagation=rprivate", "touch", "/m/sub/f"), want: "Read-only file system", code: 1},
		{args: bind("", "ls", "/m/sub"), want: "seen"},
		{args: bind(",bind-recursive=disabled", "ls", "/m/sub/seen"), want: "No such file", code: 1},
		{args: words("create --name donor -v " + dir + ":/m:ro busybox true")},
		{args: words("run --rm --volumes-from donor busybox touch /m/sub/f"), want: "Read-only file system", code: 1},
		{args: bind(",readonly,bind-recursive=writable", "true")},
		{args: []string{"create", "--name", "partly", "--mount", "type=bind,src=" + dir + ",dst=/m,readonly,bind-recursive=writable", "busybox"}},
		{args: words("run --rm --volumes-from partly busybox touch /m/sub/f")},
	})
}

// The propagation of a bind was ignored, and modes that Docker takes for the sake of others were refused.
func TestModesOfABind(t *testing.T) {
	h := newDockerHost(t)
	h.loadBusybox()
	shared, private := t.TempDir(), t.TempDir()
	mountTmpfs(t, shared, "shared")
	mountTmpfs(t, private, "private")
	mode := func(dir, mode string) []string {
		return []string{"run", "--rm", "-v", dir + ":/m:" + mode, "busybox", "grep", " /m ", "/proc/self/mountinfo"}
	}
	h.expect([]step{
		{args: mode(shared, "rshared"), want: "shared:"},
		{args: mode(shared, "shared"), want: "shared:"},
		{args: mode(shared, "rslave"), want: "master:"},
		{args: mode(shared, "slave,ro"), want: "master:"},
		{args: mode(shared, "private"), want: " /m "},
		{args: mode(private, "rshared"), want: "path " + private + " is mounted on " + private + " but it is not a shared mount", code: 125},
		{args: mode(private, "rslave"), want: "path " + private + " is mounted on " + private + " but it is not a shared or slave mount", code: 125},
		{args: mode(private, "cached"), want: " /m "},
		{args: mode(private, "delegated"), want: " /m "},
		{args: mode(private, "consistent,ro,z"), want: " ro,"},
		{args: mode(private, "ro,rw"), want: "invalid mode: ro,rw", code: 125},
		{args: mode(private, "soft"), want: "invalid mode: soft", code: 125},
		{args: words("run --rm -v name:/m:rshared busybox true"), want: `invalid volume specification: 'name:/m:rshared': invalid mount config for type "volume": field BindOptions must not be specified`, code: 125},
		{args: words("create --volumes-from nosuch busybox"), want: "No such container: nosuch", code: 1},
		{args: words("create --name donor -v data:/d -v " + private + ":/m busybox true")},
		{args: words("run --rm --volumes-from donor:shared busybox true"), want: "invalid mode: shared", code: 125},
		{args: words("run --rm --volumes-from donor:ro,z busybox touch /d/f"), want: "Read-only file system", code: 1},
		{args: []string{"run", "--rm", "--volumes-from", "donor", "-v", shared + ":/d", "busybox", "ls", "/d"}, want: "seen"}, // over the donor's
	})
}
