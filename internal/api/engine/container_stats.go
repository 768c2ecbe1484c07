package engine

import (
	"fmt"
	"net/http"
	"os"
	"runtime"
	"strconv"
	"strings"
	"time"

	apicontainer "github.com/moby/moby/api/types/container"

	"github.com/shoal-dev/shoal/internal/api/convert"
	"github.com/shoal-dev/shoal/internal/api/server"
	"github.com/shoal-dev/shoal/internal/container"
	"github.com/shoal-dev/shoal/internal/container/cgroup"
)

func (c *containers) stats(w http.ResponseWriter, r *http.Request) error {
	id := r.PathValue("id")
	info, err := c.engine.Inspect(id)
	if err != nil {
		return err
	}
	stream := r.FormValue("stream") == "" || server.BoolParam(r, "stream")
	if stream && server.BoolParam(r, "one-shot") {
		return server.BadRequest("cannot have stream=true and one-shot=true")
	}
	out := server.StartJSONStream(w)
	previous := sample{}
	if !server.BoolParam(r, "one-shot") {
		previous = c.sample(info)
	}
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		if !server.BoolParam(r, "one-shot") {
			select {
			case <-r.Context().Done():
				return nil
			case <-tick.C:
			}
		}
		if info, err = c.engine.Inspect(info.ID); err != nil {
			return nil //nolint:nilerr // the container has been removed, which ends the stream
		}
		now := c.sample(info)
		if out.Send(now.toAPIStats(info, previous)) != nil || !stream {
			return nil
		}
		previous = now
	}
}

// sample is a container's counters at one moment. That of a container without processes has only the time.
type sample struct {
	at       time.Time
	usage    cgroup.Usage
	detail   cgroup.Detail
	hostCPU  uint64 // nanoseconds of all processors since boot
	networks map[string]apicontainer.NetworkStats
}

func (c *containers) sample(info container.Info) sample {
	s := sample{at: time.Now()}
	if info.State.PID == 0 {
		return s
	}
	s.usage, _ = c.engine.Usage(info.ID)
	s.detail, _ = c.engine.UsageDetail(info.ID)
	s.hostCPU, s.networks = hostCPUNanos(), networkStats(info.State.PID)
	return s
}

func (s sample) toAPICPUStats() apicontainer.CPUStats {
	if s.hostCPU == 0 { // nothing was measured
		return apicontainer.CPUStats{}
	}
	return apicontainer.CPUStats{ThrottlingData: apicontainer.ThrottlingData{
		Periods: s.detail.Periods, ThrottledPeriods: s.detail.ThrottledPeriods, ThrottledTime: s.detail.ThrottledNanos,
	}, SystemUsage: s.hostCPU, OnlineCPUs: uint32(runtime.NumCPU()), CPUUsage: apicontainer.CPUUsage{
		TotalUsage: s.usage.CPUNanos, UsageInUsermode: s.usage.CPUUserNanos, UsageInKernelmode: s.usage.CPUSystemNanos, PercpuUsage: s.detail.PerCPU,
	}}
}

// toAPIStats shows the sample beside the one before it, from which clients compute rates.
func (s sample) toAPIStats(info container.Info, previous sample) apicontainer.StatsResponse {
	out := apicontainer.StatsResponse{OSType: "linux", ID: info.ID, Name: "/" + info.Name, Read: s.at, PreRead: previous.at, Networks: s.networks}
	out.CPUStats, out.PreCPUStats = s.toAPICPUStats(), previous.toAPICPUStats()
	out.PidsStats = apicontainer.PidsStats{Current: s.usage.Pids, Limit: s.usage.PidsLimit}
	limit := s.usage.MemoryLimit
	if total := hostMemory(); limit == 0 || limit > total {
		limit = total
	}
	if s.hostCPU == 0 {
		return out
	}
	out.MemoryStats = apicontainer.MemoryStats{Usage: s.usage.Memory, MaxUsage: s.detail.MemoryPeak, Failcnt: s.detail.MemoryFailures, Limit: limit, Stats: s.detail.MemoryStat}
	out.BlkioStats = apicontainer.BlkioStats{IoServiceBytesRecursive: toAPIIO(s.detail.Bytes), IoServicedRecursive: toAPIIO(s.detail.Operations)}
	return out
}

func toAPIIO(counters []cgroup.IO) []apicontainer.BlkioStatEntry {
	return convert.List(counters, func(c cgroup.IO) apicontainer.BlkioStatEntry {
		return apicontainer.BlkioStatEntry{Major: c.Major, Minor: c.Minor, Op: c.Op, Value: c.Value}
	})
}

// hostCPUNanos is the time that all processors of the host have spent since boot, idle time included, in nanoseconds; 0 if it
// cannot be read.
func hostCPUNanos() uint64 {
	data, err := os.ReadFile("/proc/stat")
	if err != nil {
		return 0
	}
	line, _, _ := strings.Cut(string(data), "\n")
	var ticks uint64
	for i, f := range strings.Fields(line) {
		if i >= 1 && i <= 7 {
			n, _ := strconv.ParseUint(f, 10, 64)
			ticks += n
		}
	}
	return ticks * 10_000_000 // /proc/stat counts hundredths of a second (USER_HZ)
}

// hostMemory is the memory of the host in bytes; 0 if it cannot be read.
func hostMemory() uint64 {
	data, err := os.ReadFile("/proc/meminfo")
	if err != nil {
		return 0
	}
	fields := strings.Fields(string(data))
	if len(fields) < 2 {
		return 0
	}
	n, _ := strconv.ParseUint(fields[1], 10, 64)
	return n << 10
}

// networkStats reads the traffic counters of the interfaces in a process's network namespace.
func networkStats(pid int) map[string]apicontainer.NetworkStats {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/net/dev", pid))
	if err != nil {
		return nil
	}
	out := map[string]apicontainer.NetworkStats{}
	for line := range strings.SplitSeq(string(data), "\n") {
		name, counters, ok := strings.Cut(line, ":")
		f := strings.Fields(counters)
		if name = strings.TrimSpace(name); !ok || name == "lo" || len(f) < 12 {
			continue
		}
		n := func(i int) uint64 { v, _ := strconv.ParseUint(f[i], 10, 64); return v }
		out[name] = apicontainer.NetworkStats{RxBytes: n(0), RxPackets: n(1), RxErrors: n(2), RxDropped: n(3), TxBytes: n(8), TxPackets: n(9), TxErrors: n(10), TxDropped: n(11)}
	}
	return out
}
