package engine

import (
	"encoding/json"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/containerd/containerd/v2/core/leases"
	apiimage "github.com/moby/moby/api/types/image"

	"github.com/shoal-dev/shoal/internal/registry/registrytest"
	"github.com/shoal-dev/shoal/internal/runtime"
)

// collectGarbage returns when containerd has removed what nothing refers to.
func (h *dockerHost) collectGarbage() {
	h.t.Helper()
	ctx, manager := runtime.WithNamespace(h.t.Context()), h.runtime.Client.LeasesService()
	lease, err := manager.Create(ctx, leases.WithRandomID())
	if err == nil {
		err = manager.Delete(ctx, lease, leases.SynchronousDelete)
	}
	if err != nil {
		h.t.Fatal(err)
	}
}

// platformsOf lists the platforms that an image is for, those that the node has content for with a plus.
func (h *dockerHost) platformsOf(name string) string {
	h.t.Helper()
	_, text := h.send("1.51", "GET", "/images/"+name+"/json?manifests=1", "")
	var img apiimage.InspectResponse
	if err := json.Unmarshal([]byte(text), &img); err != nil {
		h.t.Fatalf("%v: %s", err, text)
	}
	var all []string
	for _, m := range img.Manifests {
		text := m.ImageData.Platform.Architecture
		if m.Available {
			text += "+"
			if m.Size.Content == 0 || m.Size.Total != m.Size.Content+m.ImageData.Size.Unpacked {
				h.t.Errorf("sizes of %s: %+v, %+v", text, m.Size, m.ImageData)
			}
		}
		all = append(all, text)
	}
	return strings.Join(all, " ")
}

// A platform that was asked for was ignored: pull fetched the node's own, push, save, inspect and history took whatever there was, and load all.
func TestPlatformsOfAnImage(t *testing.T) {
	h := newDockerHost(t)
	server := registrytest.New(t, registrytest.Options{})
	registrytest.UploadIndex(t, server, "team/many:1", registrytest.RandomIndex(t, "amd64", "arm64", "s390x"))
	name, all := server.Addr()+"/team/many:1", filepath.Join(t.TempDir(), "all.tar")
	const inspect, notThere = "image inspect -f {{.Architecture}} --platform linux/", "image with reference NAME was found but does not provide the specified platform (linux/"
	absent := func(arch string) string { return strings.ReplaceAll(notThere, "NAME", name) + arch + ")" }
	h.expect([]step{
		{args: words("pull -q " + name), want: name},
		{args: words(inspect + "arm64 " + name), want: absent("arm64"), code: 1},
		{args: words("pull --platform linux/riscv64 " + name), want: "no matching manifest for linux/riscv64 in the manifest list entries", code: 1},
		{args: words("pull --platform linux/arm64 " + name), want: "Status: Image is up to date for " + name},
	})
	h.collectGarbage()
	if got := h.platformsOf(name); got != "amd64+ arm64+ s390x" {
		t.Errorf("after two pulls the node has %s", got)
	}
	h.expect([]step{
		{args: words(inspect + "amd64 " + name), want: "amd64\n"},
		{args: words(inspect + "arm64 " + name), want: "arm64\n"},
		{args: words("image inspect -f {{.Architecture}} " + name), want: "amd64\n"},
		{args: words("history --platform linux/arm64 " + name), want: "CREATED BY"},
		{args: words("history --platform linux/s390x " + name), want: absent("s390x"), code: 1},
		{args: words("image ls --tree"), want: "linux/s390x"},
		{args: words("save -o " + all + " " + name)},
		{args: words("save --platform linux/s390x -o " + all + "2 " + name), want: "no suitable export target found: " + absent("s390x"), code: 1},
		{args: words("rmi " + name), want: "Deleted: sha256:"},
		{args: words("load --platform linux/s390x -i " + all), want: "image " + name + " was loaded, but doesn't provide the requested platform (linux/s390x)", code: 1},
		{args: words("load --platform linux/arm64 -i " + all), want: "Loaded image: " + name},
	})
	h.collectGarbage()
	if got := h.platformsOf(name); got != "amd64 arm64+ s390x" {
		t.Errorf("after a load for one platform the node has %s", got)
	}
	h.expect([]step{{args: words("load --platform linux/amd64 -i " + all), want: "Loaded image: " + name}}) // which keeps the other
	h.collectGarbage()
	if got := h.platformsOf(name); got != "amd64+ arm64+ s390x" {
		t.Errorf("after a load for another platform the node has %s", got)
	}
	if status, text := h.send("1.50", "DELETE", `/images/`+name+`?force=1&platforms={"os":"linux","architecture":"amd64"}`, ""); status != 200 || !strings.Contains(text, "Deleted") {
		t.Errorf("removal of a platform: %d %s", status, text)
	}
	if got := h.platformsOf(name); got != "amd64 arm64+ s390x" {
		t.Errorf("after the removal of a platform the node has %s", got)
	}
}

// Push sent what there was under the image's index, which registries refuse, or half an image.
func TestPushOfSeveralPlatforms(t *testing.T) {
	h := newDockerHost(t)
	server := registrytest.New(t, registrytest.Options{})
	index := registrytest.RandomIndex(t, "amd64", "arm64")
	registrytest.UploadIndex(t, server, "team/many:1", index)
	manifest, err := index.IndexManifest()
	if err != nil {
		t.Fatal(err)
	}
	name, other := server.Addr()+"/team/many:1", server.Addr()+"/other/many:"
	for _, tag := range []string{"part", "arm", "none", "whole"} {
		h.expect([]step{{args: words("pull -q " + name)}, {args: words("tag " + name + " " + other + tag)}})
	}
	h.expect([]step{{args: words("push " + other + "part"), want: "Not all multiplatform-content is present and only the available single-platform image was pushed"}})
	if got := registrytest.Target(t, server, "other/many:part"); got.Digest != manifest.Manifests[0].Digest {
		t.Errorf("what was pushed of a part: %+v", got)
	}
	h.expect([]step{
		{args: words("push --platform linux/arm64 " + other + "none"), want: "image with reference " + other + "none was found but does not provide the specified platform (linux/arm64)", code: 1},
		{args: words("pull -q --platform linux/arm64 " + name)},
		{args: words("push --platform linux/arm64 " + other + "arm"), want: "arm: digest: " + manifest.Manifests[1].Digest.String()},
		{args: words("push " + other + "whole"), want: "whole: digest: sha256:"},
		{args: words("push " + other + "nosuch"), want: "tag does not exist: " + other + "nosuch", code: 1},
		{args: words("push " + server.Addr() + "/nosuch -a"), want: "An image does not exist locally with the tag: " + server.Addr() + "/nosuch", code: 1},
	})
	if got := registrytest.Target(t, server, "other/many:arm"); got.Digest != manifest.Manifests[1].Digest {
		t.Errorf("what was pushed of one platform: %+v", got)
	}
	want, err := index.Digest()
	if got := registrytest.Target(t, server, "other/many:whole"); err != nil || got.Digest != want {
		t.Errorf("what was pushed as a whole: %+v, %v", got, err)
	}
	h.expect([]step{{args: words("push -q -a " + strings.TrimSuffix(other, ":"))}})
	if got := registrytest.Target(t, server, "other/many:none"); got.Digest != want {
		t.Errorf("what was pushed with all tags: %+v", got)
	}
}

// A container for another platform than the node's was refused when the image was there for both, and counted as one of the other.
func TestAContainerForAPlatform(t *testing.T) {
	h := newDockerHost(t)
	server := registrytest.New(t, registrytest.Options{})
	registrytest.UploadIndex(t, server, "team/many:1", registrytest.RandomIndex(t, "amd64", "arm64"))
	name := server.Addr() + "/team/many:1"
	trim := func(args string) string {
		out, code := h.docker("", words(args)...)
		if code != 0 {
			t.Fatalf("docker %s: %s", args, out)
		}
		return strings.TrimSpace(out)
	}
	trim("pull -q " + name)
	h.expect([]step{
		{args: words("create --pull never --platform linux/arm64 " + name + " true"), want: "was found but does not provide the specified platform (linux/arm64)", code: 1},
		{args: words("create --platform linux/arm64 --name far " + name + " true"), want: "Unable to find image '" + name + "' locally"},
	})
	id := trim("image inspect --platform linux/arm64 -f {{.Id}} " + name)
	if got := trim("inspect -f {{.Image}} far"); got != id {
		t.Errorf("the container's image is %s, not %s", got, id)
	}
	if got := trim("inspect -f {{.ImageManifestDescriptor.platform.architecture}} far"); got != "arm64" {
		t.Errorf("the container's manifest is for %s", got)
	}
	trim("create --name near " + name + " true")
	if got := strings.Fields(trim("ps -a --format {{.Names}} --filter ancestor=" + name)); !slices.Contains(got, "far") || !slices.Contains(got, "near") {
		t.Errorf("the image's containers are %v", got)
	}
	h.expect([]step{
		{args: words("rmi " + name), want: "conflict: unable to delete " + name + " (must be forced) - container ", code: 1},
		{args: words("rm near"), want: "near"},
		{args: words("rmi " + name), want: "conflict: unable to delete " + name + " (must be forced) - container ", code: 1},
		{args: words("commit far grown:1"), want: "sha256:"},
		{args: words("image inspect -f {{.Architecture}} grown:1"), want: "arm64\n"},
		{args: words("rm far"), want: "far"},
		{args: words("rmi " + name), want: "Deleted: sha256:"},
	})
}
