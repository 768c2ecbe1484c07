package engine

import (
	"slices"
	"strings"
	"testing"
)

// A forced removal deleted images whose containers ran, and prune left all names of an image that was used by one.
func TestForcedRemovalOfImagesInUse(t *testing.T) {
	h := newDockerHost(t)
	h.loadBusybox()
	out, _ := h.docker("", "image", "inspect", "busybox", "-f", "{{.Id}}")
	id := strings.TrimSpace(out)
	short := strings.TrimPrefix(id, "sha256:")[:12]
	h.expect([]step{
		{args: words("run -d --name up busybox sleep 1000")},
		{args: words("rmi busybox"), want: "conflict: unable to delete busybox:latest (must be forced) - container ", code: 1},
		{args: words("rmi " + id), want: "conflict: unable to delete " + short + " (cannot be forced) - image is being used by running container ", code: 1},
		{args: words("rmi -f " + id), want: "conflict: unable to delete " + short + " (cannot be forced) - image is being used by running container ", code: 1},
		{args: words("tag busybox box:1")},
		{args: words("rmi box:1"), want: "Untagged: box:1"},
		{args: words("rmi -f busybox"), want: "Untagged: busybox:latest"},
		{args: words("image ls -aq --no-trunc --filter dangling=true"), want: id},
		{args: words("image prune -af"), want: "Total reclaimed space: 0B"},
		{args: words("run --rm " + id + " echo kept"), want: "kept"},
		{args: words("stop -t 0 up")},
		{args: words("rmi " + id), want: "(must be forced) - image is being used by stopped container ", code: 1},
		{args: words("rmi -f " + id), want: "Deleted: " + id},
		{args: words("start up"), want: "up"},
		{args: words("exec up echo lives"), want: "lives"},
		{args: words("image inspect " + id), want: "No such image", code: 1},
		{args: words("rm -f up")},
	})
	h.loadBusybox()
	h.expect([]step{
		{args: words("tag busybox box:1")},
		{args: words("tag busybox box:2")},
		{args: words("rmi " + id), want: "(must be forced) - image is referenced in multiple repositories", code: 1},
		{args: words("create --name uses box:1 true")},
		{args: words("image prune -af"), want: "untagged: box:2"},
		{args: words("image ls --format {{.Repository}}:{{.Tag}}"), want: "box:1\n"},
		{args: words("image inspect busybox"), want: "No such image", code: 1},
		{args: words("rm uses")},
		{args: words("image prune -af"), want: "deleted: " + id},
	})
}

// The list's filters were ignored, a reference showed all of an image's names, and an image whose name went to another vanished.
func TestFiltersOfImages(t *testing.T) {
	h := newDockerHost(t)
	h.loadBusybox()
	list := func(filters ...string) []string {
		args := []string{"image", "ls", "-a", "--format", "{{.Repository}}:{{.Tag}}"}
		for _, f := range filters {
			args = append(args, "--filter", f)
		}
		return args
	}
	names := func(want string, filters ...string) {
		t.Helper()
		out, code := h.docker("", list(filters...)...)
		if got := strings.Join(slices.Sorted(strings.FieldsSeq(out)), " "); code != 0 || got != want {
			t.Errorf("%v: %q, want %q", filters, got, want)
		}
	}
	h.expect([]step{
		{args: words("create --name made busybox true")},
		{args: words("commit -c LABEL_which=first made one:1"), want: "sha256:"},
		{args: words("tag one:1 other:1")},
		{args: words("commit -c LABEL_which=second made two:1"), want: "sha256:"},
	})
	names("two:1", "since=one:1")
	names("busybox:latest", "before=one:1")
	names("one:1", "reference=one")
	names("one:1 two:1", "reference=*wo:1", "reference=one", "until=0s", "label=which")
	names("one:1 other:1", "label=which=first")
	names("busybox:latest", "label!=which")
	names("busybox:latest", "until=24000h")
	names("", "dangling=true")
	h.expect([]step{
		{args: list("since=nosuch"), want: "No such image: nosuch:latest", code: 1},
		{args: list("dangling=perhaps"), want: "invalid filter 'dangling=[perhaps]'", code: 1},
		{args: words("tag busybox two:1")},
	})
	names("<none>:<none>", "dangling=true")
	names("<none>:<none>", "label=which=second")
	h.expect([]step{
		{args: words("tag one:1 other:1")},
		{args: words("image prune -f"), want: "deleted: sha256:"},
	})
	names("", "dangling=true")
	names("one:1 other:1", "label=which=first")
}
