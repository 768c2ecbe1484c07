// Package cgroup reads the counters of control groups and removes empty ones, the same way for version 1 of the kernel's interface (a
// hierarchy for each controller) and for version 2 (one hierarchy). A cgroup is named by its path below the mount point, such as
// "/shoal-0123/4567".
package cgroup

import (
	"bufio"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"

	"golang.org/x/sys/unix"
)

// mountPoint is where every Linux distribution mounts the hierarchies, or the one of version 2.
const mountPoint = "/sys/fs/cgroup"

// V2 reports whether the host has version 2 only. A host that mounts both counts as version 1, because there the controllers are.
var V2 = sync.OnceValue(func() bool { //nolint:gochecknoglobals // asked once
	var st unix.Statfs_t
	return unix.Statfs(mountPoint, &st) == nil && st.Type == unix.CGROUP2_SUPER_MAGIC
})

// Usage is what the processes of a cgroup use now. A limit of 0 means none. What the kernel does not tell is 0.
type Usage struct {
	CPUNanos, CPUUserNanos, CPUSystemNanos uint64 // nanoseconds since the cgroup was made: all, in user mode, in the kernel
	Memory, MemoryCache, MemoryLimit       uint64 // bytes; MemoryCache is the part of Memory that the kernel can drop at once
	Pids, PidsLimit                        uint64 // processes and threads
}

// ReadUsage reads the counters of a cgroup. For one that does not exist all are 0.
func ReadUsage(cgroup string) Usage {
	u := Usage{
		Memory:      readNumber(file(cgroup, "memory", "memory.usage_in_bytes", "memory.current")),
		MemoryLimit: readNumber(file(cgroup, "memory", "memory.limit_in_bytes", "memory.max")),
		Pids:        readNumber(file(cgroup, "pids", "pids.current", "pids.current")),
		PidsLimit:   readNumber(file(cgroup, "pids", "pids.max", "pids.max")),
	}
	memoryStat := file(cgroup, "memory", "memory.stat", "memory.stat")
	if V2() {
		u.MemoryCache = readCounter(memoryStat, "inactive_file")
		cpuStat := file(cgroup, "", "", "cpu.stat")
		const nanosPerMicro = 1000
		u.CPUNanos = nanosPerMicro * readCounter(cpuStat, "usage_usec")
		u.CPUUserNanos = nanosPerMicro * readCounter(cpuStat, "user_usec")
		u.CPUSystemNanos = nanosPerMicro * readCounter(cpuStat, "system_usec")
		return u
	}
	u.MemoryCache = readCounter(memoryStat, "total_inactive_file")
	u.CPUNanos = readNumber(file(cgroup, "cpuacct", "cpuacct.usage", ""))
	u.CPUUserNanos = readNumber(file(cgroup, "cpuacct", "cpuacct.usage_user", ""))
	u.CPUSystemNanos = readNumber(file(cgroup, "cpuacct", "cpuacct.usage_sys", ""))
	return u
}

// OOMKilled reports whether the kernel has killed a process of a cgroup because memory ran out. The kernel forgets it with the cgroup,
// so it must be asked before Remove.
func OOMKilled(cgroup string) bool {
	return readCounter(file(cgroup, "memory", "memory.oom_control", "memory.events"), "oom_kill") > 0
}

// Remove removes a cgroup from every hierarchy. One that has processes or child cgroups stays, and so does the root.
func Remove(cgroup string) {
	if cgroup == "" || cgroup == "/" {
		return
	}
	inHierarchies, _ := filepath.Glob(filepath.Join(mountPoint, "*", cgroup)) // fails only for a malformed pattern
	for _, dir := range append(inHierarchies, filepath.Join(mountPoint, cgroup)) {
		_ = unix.Rmdir(dir) // the kernel refuses while it is in use
	}
}

// file is the path of a cgroup's file. It is called v1 and lies in the controller's hierarchy in version 1, and is called v2 in version 2.
func file(cgroup, controller, v1, v2 string) string {
	if V2() {
		return filepath.Join(mountPoint, cgroup, v2)
	}
	return filepath.Join(mountPoint, controller, cgroup, v1)
}

// readCounter reads one number from a file of lines "name number"; 0 if it is not there.
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

// readNumber reads a file that holds one number; 0 for "max", which is how version 2 says that there is no limit.
func readNumber(path string) uint64 {
	data, err := os.ReadFile(path)
	if err != nil {
		return 0
	}
	n, _ := strconv.ParseUint(strings.TrimSpace(string(data)), 10, 64)
	return n
}
