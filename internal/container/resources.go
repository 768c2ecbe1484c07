package container

import (
	"bufio"
	"cmp"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

const cgroupRoot = "/sys/fs/cgroup"

// cgroupV2 reports whether the host has the unified hierarchy only.
var cgroupV2 = sync.OnceValue(func() bool { //nolint:gochecknoglobals // asked once
	var st unix.Statfs_t
	return unix.Statfs(cgroupRoot, &st) == nil && st.Type == unix.CGROUP2_SUPER_MAGIC
})

// cgroupPath is a container's cgroup, by default under the node's own parent, so that nodes on one machine do not share cgroups.
func (e *Engine) cgroupPath(info Info) string {
	return filepath.Join("/", cmp.Or(info.Spec.CgroupParent, e.CgroupParent), info.ID)
}

func linuxResources(r Resources) *specs.LinuxResources {
	out := &specs.LinuxResources{Memory: &specs.LinuxMemory{}, CPU: &specs.LinuxCPU{Cpus: r.CpusetCpus, Mems: r.CpusetMems}}
	setLimit := func(to **int64, n int64) {
		if n != 0 {
			*to = &n
		}
	}
	setLimit(&out.Memory.Limit, r.Memory)
	setLimit(&out.Memory.Reservation, r.MemoryReservation)
	if swap := r.MemorySwap; swap != 0 {
		out.Memory.Swap = &swap
	} else if r.Memory > 0 {
		swap = 2 * r.Memory
		out.Memory.Swap = &swap
	}
	if r.OomKillDisable {
		out.Memory.DisableOOMKiller = &r.OomKillDisable
	}
	if r.CPUShares > 0 {
		shares := uint64(r.CPUShares)
		out.CPU.Shares = &shares
	}
	quota, period := r.CPUQuota, uint64(r.CPUPeriod)
	if r.NanoCPUs > 0 {
		period = 100_000
		quota = r.NanoCPUs * int64(period) / 1_000_000_000
	}
	setLimit(&out.CPU.Quota, quota)
	if period > 0 {
		out.CPU.Period = &period
	}
	if r.Pids > 0 {
		out.Pids = &specs.LinuxPids{Limit: &r.Pids}
	}
	if r.BlkioWeight > 0 {
		out.BlockIO = &specs.LinuxBlockIO{Weight: &r.BlkioWeight}
	}
	return out
}

// cgroupFile is the path of a cgroup's file, given its controller and its name on cgroup v1 and on v2.
func cgroupFile(cgroup, controller, v1, v2 string) string {
	if cgroupV2() {
		return filepath.Join(cgroupRoot, cgroup, v2)
	}
	return filepath.Join(cgroupRoot, controller, cgroup, v1)
}

// oomKilled reports whether the kernel killed a process of a container because memory ran out. It must be called before the
// container's cgroup is removed.
func (e *Engine) oomKilled(id string) bool {
	info, err := e.Inspect(id)
	if err != nil {
		return false
	}
	return readCounter(cgroupFile(e.cgroupPath(info), "memory", "memory.oom_control", "memory.events"), "oom_kill") > 0
}

// readCounter reads a number from a file of "name number" lines; 0 if there is none.
func readCounter(path, name string) uint64 {
	f, err := os.Open(path)
	if err != nil {
		return 0
	}
	defer f.Close()
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		if key, value, ok := strings.Cut(lines.Text(), " "); ok && key == name {
			n, _ := strconv.ParseUint(strings.TrimSpace(value), 10, 64)
			return n
		}
	}
	return 0
}

func readUint(path string) uint64 {
	data, err := os.ReadFile(path)
	if err != nil {
		return 0
	}
	n, _ := strconv.ParseUint(strings.TrimSpace(string(data)), 10, 64) // "max" is 0
	return n
}

// removeCgroup removes an empty cgroup from every hierarchy.
func (e *Engine) removeCgroup(cgroup string) {
	if cgroup == "" || cgroup == "/" {
		return
	}
	found, _ := filepath.Glob(filepath.Join(cgroupRoot, "*", cgroup))
	for _, dir := range append(found, filepath.Join(cgroupRoot, cgroup)) {
		_ = unix.Rmdir(dir)
	}
}
