package cgroup

import (
	"bufio"
	"os"
	"strconv"
	"strings"
)

// Detail is more of what the kernel counts of a cgroup: what `docker stats` streams and monitors read. What the kernel does not tell is empty.
type Detail struct {
	Periods, ThrottledPeriods, ThrottledNanos uint64 // of the limit of CPU time
	PerCPU                                    []uint64
	MemoryPeak, MemoryFailures                uint64            // bytes; how often the limit was hit
	MemoryStat                                map[string]uint64 // memory.stat, in the names of the version that the host has
	Bytes, Operations                         []IO
}

// IO is a counter of a block device.
type IO struct {
	Major, Minor uint64
	Op           string // read, write, and for version 1 more
	Value        uint64
}

// ReadDetail reads the counters of a cgroup. For one that does not exist all are empty.
func ReadDetail(cgroup string) Detail {
	memory := file(cgroup, "memory", "memory.stat", "memory.stat")
	cpu := file(cgroup, "cpu", "cpu.stat", "cpu.stat")
	d := Detail{
		MemoryStat: readCounters(memory), Periods: readCounter(cpu, "nr_periods"), ThrottledPeriods: readCounter(cpu, "nr_throttled"),
		MemoryPeak: readNumber(file(cgroup, "memory", "memory.max_usage_in_bytes", "memory.peak")),
	}
	if V2() {
		const nanosPerMicro = 1000
		d.ThrottledNanos = nanosPerMicro * readCounter(cpu, "throttled_usec")
		d.MemoryFailures = readCounter(file(cgroup, "", "", "memory.events"), "max")
		d.Bytes, d.Operations = readIOStat(file(cgroup, "", "", "io.stat"))
		return d
	}
	d.ThrottledNanos = readCounter(cpu, "throttled_time")
	d.MemoryFailures = readNumber(file(cgroup, "memory", "memory.failcnt", ""))
	d.PerCPU = readNumbers(file(cgroup, "cpuacct", "cpuacct.usage_percpu", ""))
	d.Bytes = readBlkio(file(cgroup, "blkio", "blkio.throttle.io_service_bytes_recursive", ""))
	d.Operations = readBlkio(file(cgroup, "blkio", "blkio.throttle.io_serviced_recursive", ""))
	return d
}

// lines is the lines of a file in fields; none if it cannot be read.
func lines(path string) [][]string {
	f, err := os.Open(path)
	if err != nil {
		return nil
	}
	defer f.Close()
	var out [][]string
	for s := bufio.NewScanner(f); s.Scan(); {
		out = append(out, strings.Fields(s.Text()))
	}
	return out
}

// readCounters reads a file of lines "name number".
func readCounters(path string) map[string]uint64 {
	out := map[string]uint64{}
	for _, f := range lines(path) {
		if len(f) != 2 {
			continue
		}
		if n, err := strconv.ParseUint(f[1], 10, 64); err == nil {
			out[f[0]] = n
		}
	}
	return out
}

// readNumbers reads a file that holds numbers.
func readNumbers(path string) []uint64 {
	var out []uint64
	for _, l := range lines(path) {
		for _, field := range l {
			if n, err := strconv.ParseUint(field, 10, 64); err == nil {
				out = append(out, n)
			}
		}
	}
	return out
}

// device reads the number of a block device, "8:0".
func device(text string) (major, minor uint64, ok bool) {
	a, b, _ := strings.Cut(text, ":")
	major, err := strconv.ParseUint(a, 10, 32)
	minor, err2 := strconv.ParseUint(b, 10, 32)
	return major, minor, err == nil && err2 == nil
}

// readBlkio reads lines "8:0 Read 123" of version 1.
func readBlkio(path string) []IO {
	var out []IO
	for _, f := range lines(path) {
		if len(f) != 3 {
			continue // the total of all devices
		}
		major, minor, ok := device(f[0])
		n, err := strconv.ParseUint(f[2], 10, 64)
		if ok && err == nil {
			out = append(out, IO{major, minor, strings.ToLower(f[1]), n})
		}
	}
	return out
}

// readIOStat reads lines "8:0 rbytes=1 wbytes=2 rios=3 wios=4" of version 2.
func readIOStat(path string) (bytes, operations []IO) {
	for _, f := range lines(path) {
		if len(f) == 0 {
			continue
		}
		major, minor, ok := device(f[0])
		if !ok {
			continue
		}
		for _, field := range f[1:] {
			name, text, _ := strings.Cut(field, "=")
			n, err := strconv.ParseUint(text, 10, 64)
			if err != nil {
				continue
			}
			switch name {
			case "rbytes":
				bytes = append(bytes, IO{major, minor, "read", n})
			case "wbytes":
				bytes = append(bytes, IO{major, minor, "write", n})
			case "rios":
				operations = append(operations, IO{major, minor, "read", n})
			case "wios":
				operations = append(operations, IO{major, minor, "write", n})
			}
		}
	}
	return bytes, operations
}
