package engine

import (
	"fmt"
	"os"
	"runtime"
	"strconv"
	"strings"

	apicontainer "github.com/moby/moby/api/types/container"
)

// invalidCPU is what is wrong with limits of processors, in Docker's words; empty if nothing is.
func invalidCPU(r *apicontainer.Resources, _ bool) string {
	const nanosPerCPU = 1_000_000_000
	switch {
	case r.NanoCPUs > 0 && r.CPUPeriod > 0:
		return "Conflicting options: Nano CPUs and CPU Period cannot both be set"
	case r.NanoCPUs > 0 && r.CPUQuota > 0:
		return "Conflicting options: Nano CPUs and CPU Quota cannot both be set"
	case r.NanoCPUs < 0 || r.NanoCPUs > int64(runtime.NumCPU())*nanosPerCPU:
		return fmt.Sprintf("range of CPUs is from 0.01 to %[1]d.00, as there are only %[1]d CPUs available", runtime.NumCPU())
	case r.CPUPeriod != 0 && (r.CPUPeriod < 1000 || r.CPUPeriod > 1_000_000):
		return "CPU cfs period can not be less than 1ms (i.e. 1000) or larger than 1s (i.e. 1000000)"
	case r.CPUQuota > 0 && r.CPUQuota < 1000:
		return "CPU cfs quota can not be less than 1ms (i.e. 1000)"
	case r.CPURealtimePeriod != 0 || r.CPURealtimeRuntime != 0:
		return "Your kernel does not support CPU real-time scheduler"
	}
	for _, set := range []struct{ text, file, kind, words string }{
		{r.CpusetCpus, "/sys/devices/system/cpu/online", "cpus", "CPUs"},
		{r.CpusetMems, "/sys/devices/system/node/online", "mems", "memory nodes"},
	} {
		if problem := invalidSet(set.text, set.file, set.kind, set.words); problem != "" {
			return problem
		}
	}
	return ""
}

// invalidSet is what is wrong with a set of processors or memory nodes. What the machine has is in a file of the kernel; if it cannot be read, every set is
// taken.
func invalidSet(text, file, kind, words string) string {
	if text == "" {
		return ""
	}
	wanted, ok := parseSet(text)
	if !ok {
		return fmt.Sprintf("Invalid value %s for cpuset %s", text, kind)
	}
	online, err := os.ReadFile(file)
	if err != nil {
		return ""
	}
	available, _ := parseSet(strings.TrimSpace(string(online)))
	for n := range wanted {
		if !available[n] {
			return fmt.Sprintf("Requested %s are not available - requested %s, available: %s", words, text, strings.TrimSpace(string(online)))
		}
	}
	return ""
}

// maxSet bounds the numbers of a set: no machine has as many processors.
const maxSet = 8192

// parseSet reads a set of numbers, such as "0-2,7".
func parseSet(text string) (set map[int]bool, ok bool) {
	set = map[int]bool{}
	for part := range strings.SplitSeq(text, ",") {
		first, last, isRange := strings.Cut(part, "-")
		if !isRange {
			last = first
		}
		from, err := strconv.Atoi(first)
		to, err2 := strconv.Atoi(last)
		if err != nil || err2 != nil || from < 0 || from > to || to > maxSet {
			return nil, false
		}
		for n := from; n <= to; n++ {
			set[n] = true
		}
	}
	return set, true
}
