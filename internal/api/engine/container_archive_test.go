package engine

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	testimages "github.com/shoal-dev/shoal/test/images"
)

// A part of a copy must not look like all of it.
func TestACopyDuringWhichTheContainerEndsIsCutOff(t *testing.T) {
	h := newDockerHost(t)
	paths, err := testimages.Build(t.Context(), testimages.CacheDir())
	if err != nil {
		t.Fatal(err)
	}
	docker := func(args ...string) {
		t.Helper()
		if out, code := h.docker("", args...); code != 0 {
			t.Fatalf("docker %v: exit %d, %s", args, code, out)
		}
	}
	docker("load", "-i", paths["busybox"])
	docker("run", "-d", "--name", "copied", "--stop-signal", "KILL", "busybox", "sleep", "1000")
	docker("exec", "copied", "dd", "if=/dev/zero", "of=/big", "bs=1M", "count=64") // more than sockets and pipes hold
	client := http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", h.socket)
	}}}
	defer client.CloseIdleConnections()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://docker/containers/copied/archive?path=/big", nil)
	if err != nil {
		t.Fatal(err)
	}
	response, err := client.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	var begin strings.Builder
	if _, err := io.CopyN(&begin, response.Body, 4096); err != nil {
		t.Fatalf("%s: %q, %v", response.Status, begin.String(), err)
	}
	docker("stop", "copied")
	if n, err := io.Copy(io.Discard, response.Body); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("the response ends after %d more bytes with %v", n, err)
	}
}

// What was copied into a container that did not run lay hidden under its volumes afterwards, and the root of a running one was no place to copy to.
func TestCopiesGoToWhereTheContainerLooks(t *testing.T) {
	h := newDockerHost(t)
	h.loadBusybox()
	dir, file := t.TempDir(), filepath.Join(t.TempDir(), "f")
	if err := os.WriteFile(file, []byte("from the host"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "h"), []byte("a bind"), 0o644); err != nil {
		t.Fatal(err)
	}
	mountsBefore := mountCount(t)
	h.expect([]step{
		{args: words("create --name idle -u 33:44 -v data:/data -v data:/fixed:ro -v " + dir + ":/bind busybox cat /data/f /bind/f")},
		{args: []string{"cp", file, "idle:/data/"}},
		{args: []string{"cp", file, "idle:/bind"}},
		{args: []string{"cp", "-a", file, "idle:/owned"}},
		{args: []string{"cp", file, "idle:/"}},
		{args: []string{"cp", "idle:/bind/h", "-"}, want: "a bind"},
		{args: []string{"cp", "idle:/fixed/f", "-"}, want: "from the host"},
		{args: []string{"cp", file, "idle:/fixed"}, want: "mounted volume is marked read-only", code: 1},
		{args: []string{"cp", file, "idle:/fixed/new"}, want: "mounted volume is marked read-only", code: 1},
		{args: []string{"cp", "idle:/dne", "-"}, want: "Could not find the file /dne in container idle", code: 1},
		{args: []string{"cp", file, "idle:/dne/f"}, want: "Could not find the file /dne in container idle", code: 1},
		{args: []string{"cp", "idle:/etc/passwd/", "-"}, want: "lstat /etc/passwd/: not a directory", code: 1},
		{args: []string{"cp", "idle:/bin/nosuch/", "-"}, want: "Could not find the file /bin/nosuch/ in container idle", code: 1},
		{args: words("start -a idle"), want: "from the hostfrom the host"},
		{args: words("create --name fixed --read-only busybox true")},
		{args: []string{"cp", file, "fixed:/f"}, want: "container rootfs is marked read-only", code: 1},
		{args: words("run -d --name up -u 33 busybox sleep 1000")},
		{args: []string{"cp", file, "up:/"}},
		{args: words("exec up cat /f"), want: "from the host"},
		{args: []string{"cp", "-a", file, "up:/tmp/owned"}},
		{args: words("exec up stat -c %u /tmp/owned"), want: "33\n"},
		{args: []string{"cp", "up:/", "-"}, want: "from the host"},
		{args: []string{"cp", "up:/.", "-"}, want: "from the host"},
		{args: words("run --name links busybox sh -c mkdir_/real;echo_in_>/real/a;ln_-s_real_/link;ln_-s_/real_/absolute")},
		{args: []string{"cp", "links:/link/", "-"}, want: "link/a"},
		{args: []string{"cp", file, "links:/absolute/"}},
		{args: []string{"cp", "-L", "links:/link", "-"}, want: "real/a"},
		{args: []string{"cp", "links:/real/f", "-"}, want: "from the host"},
	})
	if data, err := os.ReadFile(filepath.Join(dir, "f")); err != nil || string(data) != "from the host" {
		t.Errorf("in the bind's source: %q, %v", data, err)
	}
	if out, _ := h.docker("", "cp", "idle:/owned", "-"); owner(t, out) != "33:44" {
		t.Errorf("owner of what was copied with -a: %s", owner(t, out))
	}
	if out, _ := h.docker("", "export", "idle"); strings.Contains(out, "a bind") {
		t.Error("an export has what is mounted")
	}
	h.expect([]step{{args: words("rm -f up")}})
	if after := mountCount(t); after > mountsBefore {
		t.Errorf("%d mounts before, %d after", mountsBefore, after)
	}
}

// owner is the user and group of the first file in an archive.
func owner(t *testing.T, archive string) string {
	t.Helper()
	header, err := tar.NewReader(strings.NewReader(archive)).Next()
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("%d:%d", header.Uid, header.Gid)
}

// mountCount is how often the host's mounts name a directory of the test, be it as their place or as a layer. Other programs' are none of its business.
func mountCount(t *testing.T) int {
	t.Helper()
	data, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	return strings.Count(string(data), t.Name())
}
