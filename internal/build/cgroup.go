package build

import (
	"path/filepath"

	"golang.org/x/sys/unix"
)

// removeCgroups removes the cgroup below which those of steps were, from every hierarchy of the kernel's. One that is in use stays: the kernel refuses.
func (b *Builder) removeCgroups() {
	const mountPoint, ofSteps = "/sys/fs/cgroup", "buildkit"                          // the executor's name for it
	dirs, _ := filepath.Glob(filepath.Join(mountPoint, "*", b.CgroupParent, ofSteps)) // fails for malformed patterns only
	for _, dir := range append(dirs, filepath.Join(mountPoint, b.CgroupParent, ofSteps)) {
		_ = unix.Rmdir(dir)
	}
}
