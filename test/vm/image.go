// Package vm runs shoal in whole machines: Debian, made from Debian's packages, under qemu without acceleration, with the daemon as a systemd unit. It
// reads apt repositories and bin/shoal; it writes a cache of root file systems (.cache/vm), and machines' disks in directories of its callers.
//
// A machine is ten to twenty times slower here than on its own processor: nothing is measured but whether, and in which order, things happen.
package vm

import (
	"context"
	"embed"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"

	"github.com/shoal-dev/shoal/test/images"
)

// guest is the files that only a machine under test has.
//
//go:embed guest
var guest embed.FS

// packages are what a machine has besides Debian's minimal base.
const packages = "linux-image-amd64,systemd,systemd-sysv,dbus,udev,iproute2,nftables,curl,procps,kmod,apparmor,wireguard-tools,nfs-kernel-server,nfs-common,ca-certificates"

// smallInitrd makes the first root hold the drivers of these machines only: each boot unpacks it.
const smallInitrd = `sed -i s/^MODULES=.*/MODULES=list/ "$1/etc/initramfs-tools/initramfs.conf"
printf '%s\n' virtio_pci virtio_blk virtio_net virtio_rng ext4 crc32c_generic >>"$1/etc/initramfs-tools/modules"
chroot "$1" update-initramfs -u`

// tree is the root of the source tree.
func tree() string {
	_, file, _, _ := runtime.Caller(0)
	return filepath.Join(filepath.Dir(file), "..", "..")
}

// Base is a release of Debian that machines are made of.
type Base struct{ dir string }

// NewBase returns a release's base ("bookworm"), which it makes if the cache does not have it: two minutes.
func NewBase(ctx context.Context, release string) (Base, error) {
	b := Base{filepath.Join(tree(), ".cache", "vm", release)}
	if _, err := os.Stat(b.disk()); err == nil {
		return b, nil
	}
	root, disk := filepath.Join(b.dir, "root"), b.disk()+".new"
	defer func() { _ = os.RemoveAll(root) }()
	if err := os.MkdirAll(b.dir, 0o755); err != nil {
		return b, err
	}
	const size = "6G"
	steps := [][]string{
		{"mmdebstrap", "--variant=minbase", "--mode=root", "--include=" + packages, "--customize-hook=" + smallInitrd, release, root},
		{"sh", "-c", "cp " + root + "/boot/vmlinuz-* " + b.kernel() + " && cp " + root + "/boot/initrd.img-* " + b.initrd()},
		{"truncate", "-s", size, disk},
		{"mke2fs", "-q", "-t", "ext4", "-F", "-d", root, disk},
	}
	for _, step := range steps {
		if out, err := exec.CommandContext(ctx, step[0], step[1:]...).CombinedOutput(); err != nil { // #nosec G204 -- ours
			return b, fmt.Errorf("make base of %s: %s: %w: %s", release, step[0], err, out)
		}
	}
	return b, os.Rename(disk, b.disk())
}

func (b Base) disk() string   { return filepath.Join(b.dir, "base.img") }
func (b Base) kernel() string { return filepath.Join(b.dir, "vmlinuz") }
func (b Base) initrd() string { return filepath.Join(b.dir, "initrd") }

// newDisk makes a machine's disk at path: the base with shoal, its unit, the images of the tests and what the tests need of the machine, among it
// programs (the path here, by the path there).
func (b Base) newDisk(ctx context.Context, path string, programs map[string]string) error {
	archives, err := images.Build(ctx, images.CacheDir())
	if err != nil {
		return err
	}
	own, err := os.MkdirTemp(filepath.Dir(path), "guest-*")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(own) }()
	if err := os.CopyFS(own, guest); err != nil {
		return err
	}
	script := []string{"mkdir /usr/local/lib/vm"}
	install := func(from, to string, mode string) {
		script = append(script, fmt.Sprintf("write %s %s", from, to), fmt.Sprintf("sif %s mode 0100%s", to, mode))
	}
	install(filepath.Join(tree(), "bin", "shoal"), "/usr/local/bin/shoal", "755")
	for _, to := range slices.Sorted(maps.Keys(programs)) {
		install(programs[to], to, "755")
	}
	for _, name := range []string{"console.sh", "churn.sh", "address.sh"} {
		install(filepath.Join(own, "guest", name), "/usr/local/lib/vm/"+name, "755")
	}
	for _, name := range []string{"busybox", "nginx"} {
		install(archives[name], "/usr/local/lib/vm/"+name+".tar", "644")
	}
	units := map[string]string{
		"shoal.service":      filepath.Join(tree(), "packaging", "shoal.service"),
		"vm-console.service": filepath.Join(own, "guest", "vm-console.service"),
		"vm-net.service":     filepath.Join(own, "guest", "vm-net.service"),
	}
	for name, from := range units {
		install(from, "/etc/systemd/system/"+name, "644")
		script = append(script, fmt.Sprintf("symlink /etc/systemd/system/multi-user.target.wants/%s /etc/systemd/system/%s", name, name))
	}
	if out, err := exec.CommandContext(ctx, "cp", "--sparse=always", b.disk(), path).CombinedOutput(); err != nil { // #nosec G204 -- ours
		return fmt.Errorf("copy disk: %w: %s", err, out)
	}
	return writeFiles(ctx, path, script)
}

// writeFiles has debugfs change a disk that is not in use.
func writeFiles(ctx context.Context, disk string, script []string) error {
	cmd := exec.CommandContext(ctx, "debugfs", "-w", "-f", "-", disk) // #nosec G204 -- ours
	cmd.Stdin = strings.NewReader(strings.Join(script, "\n") + "\n")
	out, err := cmd.CombinedOutput()
	if text := string(out); err == nil && (strings.Contains(text, "No such file") || strings.Contains(text, "Could not allocate")) {
		err = errors.New("a step failed")
	}
	if err != nil {
		return fmt.Errorf("write files to the disk: %w: %s", err, out)
	}
	return nil
}
