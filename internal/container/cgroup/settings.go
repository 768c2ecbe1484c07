package cgroup

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// HasBlockIO reports whether the kernel has a setting of block IO, in the words of version 1: "weight", "weight_device", "throttle.read_bps_device" and
// so on. In version 2 one controller has them all.
func HasBlockIO(setting string) bool {
	if V2() {
		controllers, err := os.ReadFile(filepath.Join(mountPoint, "cgroup.controllers"))
		return err == nil && slices.Contains(strings.Fields(string(controllers)), "io")
	}
	_, err := os.Stat(filepath.Join(mountPoint, "blkio", "blkio."+setting))
	return err == nil
}
