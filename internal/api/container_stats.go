package api

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"

	apicontainer "github.com/moby/moby/api/types/container"

	"github.com/shoal-dev/shoal/internal/container"
)

func (c *containers) top(w http.ResponseWriter, r *http.Request) error {
	pids, err := c.engine.Pids(r.Context(), r.PathValue("id"))
	if err != nil {
		return err
	}
	args := strings.Fields(r.FormValue("ps_args"))
	if len(args) == 0 {
		args = []string{"-ef"}
	}
	out, err := exec.CommandContext(r.Context(), "ps", args...).Output() // #nosec G204 G702 -- arguments of ps, as the API promises
	if err != nil {
		return fmt.Errorf("run ps: %w", err)
	}
	lines := strings.Split(strings.TrimSpace(string(out)), "\n")
	titles := strings.Fields(lines[0])
	at := slices.Index(titles, "PID")
	if at < 0 {
		return fail(http.StatusInternalServerError, "Couldn't find PID field in ps output")
	}
	processes := [][]string{}
	for _, line := range lines[1:] {
		fields := strings.Fields(line)
		if len(fields) < len(titles) {
			continue
		}
		if pid, err := strconv.Atoi(fields[at]); err == nil && slices.Contains(pids, pid) {
			last := len(titles) - 1
			processes = append(processes, append(fields[:last:last], strings.Join(fields[last:], " ")))
		}
	}
	return writeJSON(w, http.StatusOK, apicontainer.TopResponse{Titles: titles, Processes: processes})
}

func (c *containers) stats(w http.ResponseWriter, r *http.Request) error {
	id := r.PathValue("id")
	info, err := c.engine.Inspect(id)
	if err != nil {
		return err
	}
	stream := r.FormValue("stream") == "" || flag(r, "stream")
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(http.StatusOK)
	enc := json.NewEncoder(w)
	previous := sample{}
	if !flag(r, "one-shot") {
		previous = c.sample(info)
	}
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		if !flag(r, "one-shot") {
			select {
			case <-r.Context().Done():
				return nil
			case <-tick.C:
			}
		}
		if info, err = c.engine.Inspect(info.ID); err != nil {
			return nil //nolint:nilerr // removed meanwhile: the stream ends
		}
		now := c.sample(info)
		if enc.Encode(now.response(info, previous)) != nil || !stream {
			return nil
		}
		_ = http.NewResponseController(w).Flush()
		previous = now
	}
}

// sample is a container's counters at one moment.
type sample struct {
	at     time.Time
	usage  container.Usage
	system uint64
	nets   map[string]apicontainer.NetworkStats
}

func (c *containers) sample(info container.Info) sample {
	s := sample{at: time.Now()}
	if info.State.PID == 0 {
		return s
	}
	s.usage, _ = c.engine.Usage(info.ID)
	s.system, s.nets = systemNanos(), interfaces(info.State.PID)
	return s
}

func (s sample) cpu() apicontainer.CPUStats {
	return apicontainer.CPUStats{SystemUsage: s.system, OnlineCPUs: uint32(runtime.NumCPU()), CPUUsage: apicontainer.CPUUsage{
		TotalUsage: s.usage.CPUNanos, UsageInUsermode: s.usage.CPUUserNanos, UsageInKernelmode: s.usage.CPUSystemNanos,
	}}
}

func (s sample) response(info container.Info, previous sample) apicontainer.StatsResponse {
	out := apicontainer.StatsResponse{ID: info.ID, Name: "/" + info.Name, Read: s.at, PreRead: previous.at, Networks: s.nets}
	out.CPUStats, out.PreCPUStats = s.cpu(), previous.cpu()
	out.PidsStats = apicontainer.PidsStats{Current: s.usage.Pids, Limit: s.usage.PidsLimit}
	limit := s.usage.MemoryLimit
	if total := totalMemory(); limit == 0 || limit > total {
		limit = total
	}
	out.MemoryStats = apicontainer.MemoryStats{Usage: s.usage.Memory, Limit: limit, Stats: map[string]uint64{
		"inactive_file": s.usage.MemoryCache, "total_inactive_file": s.usage.MemoryCache,
	}}
	return out
}

// systemNanos is the time that all processors of the host have spent since boot, idle time included.
func systemNanos() uint64 {
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
	return ticks * 10_000_000 // a tick is a hundredth of a second
}

func totalMemory() uint64 {
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

// interfaces reads the traffic counters of a process's network namespace.
func interfaces(pid int) map[string]apicontainer.NetworkStats {
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
