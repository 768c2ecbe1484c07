package layers

import (
	"os"
	"path/filepath"
	"reflect"
	"testing"

	"github.com/containerd/containerd/v2/core/mount"
	"github.com/containerd/errdefs"
	"github.com/opencontainers/runtime-spec/specs-go"
)

func writeFile(t *testing.T, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

func TestLayersAreListedTopmostFirst(t *testing.T) {
	overlay := []mount.Mount{{Type: "overlay", Source: "overlay", Options: []string{"workdir=/w", "upperdir=/3", "lowerdir=/2:/1"}}}
	if got := Of(overlay); !reflect.DeepEqual(got, Dirs{"/3", "/2", "/1"}) {
		t.Errorf("overlay: %v", got)
	}
	if got := Of([]mount.Mount{{Type: "bind", Source: "/only", Options: []string{"rw", "rbind"}}}); !reflect.DeepEqual(got, Dirs{"/only"}) {
		t.Errorf("one layer: %v", got)
	}
}

func TestUsersAreFoundInTheTopmostFiles(t *testing.T) {
	top, bottom := t.TempDir(), t.TempDir()
	writeFile(t, filepath.Join(bottom, "etc/passwd"), "app:x:1:1::/wrong:/bin/sh\n")
	writeFile(t, filepath.Join(top, "etc/passwd"), "root:x:0:0:root:/root:/bin/sh\napp:x:1000:1001:App:/home/app:/bin/sh\nshort:line\n")
	writeFile(t, filepath.Join(bottom, "etc/group"), "app:x:1001:\ndocker:x:50:other,app\nwheel:x:10:root\n")
	d := Dirs{top, bottom}
	for _, tc := range []struct {
		user   string
		groups []string
		want   specs.User
	}{
		{"", nil, specs.User{AdditionalGids: []uint32{0}}},
		{"root", nil, specs.User{AdditionalGids: []uint32{0}}},
		{"app", nil, specs.User{UID: 1000, GID: 1001, AdditionalGids: []uint32{1001, 50}}},
		{"1000", nil, specs.User{UID: 1000, GID: 1001, AdditionalGids: []uint32{1001, 50}}},
		{"app:docker", nil, specs.User{UID: 1000, GID: 50, AdditionalGids: []uint32{50}}},
		{"app:7", []string{"wheel", "8"}, specs.User{UID: 1000, GID: 7, AdditionalGids: []uint32{7, 10, 8}}},
		{"4000", nil, specs.User{UID: 4000, AdditionalGids: []uint32{0}}},
		{"4000:4001", nil, specs.User{UID: 4000, GID: 4001, AdditionalGids: []uint32{4001}}},
		{"root", []string{"docker"}, specs.User{AdditionalGids: []uint32{0, 10, 50}}},
	} {
		if got, err := d.FindUser(tc.user, tc.groups); err != nil || !reflect.DeepEqual(got, tc.want) {
			t.Errorf("%q %v: got %+v, %v, want %+v", tc.user, tc.groups, got, err, tc.want)
		}
	}
	for _, user := range []string{"nobody", "app:nobody"} {
		if _, err := d.FindUser(user, nil); !errdefs.IsInvalidArgument(err) {
			t.Errorf("%q: %v", user, err)
		}
	}
	if home := d.HomeDir(1000); home != "/home/app" {
		t.Errorf("home %q", home)
	}
}

// A link in an image must not make the daemon read the host's files.
func TestLinksInLayersAreNotFollowed(t *testing.T) {
	layer, host := t.TempDir(), t.TempDir()
	writeFile(t, filepath.Join(host, "passwd"), "app:x:1000:1000::/:/bin/sh\n")
	if err := os.Symlink(host, filepath.Join(layer, "etc")); err != nil {
		t.Fatal(err)
	}
	if got := (Dirs{layer}).read("etc/passwd"); got != nil {
		t.Errorf("read %q", got)
	}
}
