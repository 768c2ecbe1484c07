package container

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"reflect"
	"slices"

	"github.com/containerd/containerd/v2/client"
	"github.com/containerd/errdefs"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/shoal-dev/shoal/internal/container/cgroup"
	"github.com/shoal-dev/shoal/internal/runtime"
)

// Update changes a container's resource limits, and its restart policy unless restart is nil. For a running container the limits
// apply at once. api is the request that inspect shows from then on; nil leaves it as it is.
func (e *Engine) Update(ctx context.Context, ref string, r Resources, restart *Restart, api json.RawMessage) error {
	c, err := e.find(ref)
	if err != nil {
		return err
	}
	c.op.Lock()
	defer c.op.Unlock()
	info, task, _ := c.currentTask()
	if task != nil {
		limits, err := linuxResources(withoutOldLimits(info.Spec.Resources, r))
		if err != nil {
			return err
		}
		if err := task.Update(runtime.WithNamespace(ctx), client.WithResources(limits)); err != nil {
			return fmt.Errorf("Cannot update container %s: %w", ref, err) //nolint:staticcheck // Docker's wording
		}
	}
	err = e.commit(c, func(i *Info) {
		i.Spec.Resources = r
		if restart != nil {
			i.Spec.Restart = *restart
		}
		if api != nil {
			i.Spec.API = api
		}
	})
	if err != nil {
		return err
	}
	e.publish("update", c, nil)
	return nil
}

// withoutOldLimits is new limits with what takes those of devices away that are no longer limited: the kernel keeps what it is not told of.
func withoutOldLimits(old, r Resources) Resources {
	for _, l := range []struct {
		old []DeviceLimit
		now *[]DeviceLimit
	}{
		{old.BlkioReadBps, &r.BlkioReadBps}, {old.BlkioWriteBps, &r.BlkioWriteBps},
		{old.BlkioReadOperations, &r.BlkioReadOperations}, {old.BlkioWriteOperations, &r.BlkioWriteOperations},
	} {
		*l.now = slices.Clone(*l.now)
		for _, d := range l.old {
			if !slices.ContainsFunc(*l.now, func(n DeviceLimit) bool { return n.Path == d.Path }) {
				*l.now = append(*l.now, DeviceLimit{Path: d.Path, N: math.MaxUint64}) // which is how the kernel itself says that there is none
			}
		}
	}
	return r
}

// Usage reads a running container's counters from its cgroup. Those of a container that does not run are 0.
func (e *Engine) Usage(ref string) (cgroup.Usage, error) {
	info, err := e.Inspect(ref)
	if err != nil {
		return cgroup.Usage{}, err
	}
	return cgroup.ReadUsage(e.cgroupPath(info)), nil
}

// UsageDetail reads more of a running container's counters. Those of a container that does not run are empty.
func (e *Engine) UsageDetail(ref string) (cgroup.Detail, error) {
	info, err := e.Inspect(ref)
	if err != nil {
		return cgroup.Detail{}, err
	}
	return cgroup.ReadDetail(e.cgroupPath(info)), nil
}

// Size is how many bytes a container has written into its file system, and how many the file system has with those of its image.
func (e *Engine) Size(ctx context.Context, ref string) (written, total int64, err error) {
	info, err := e.Inspect(ref)
	if err != nil {
		return 0, 0, err
	}
	usage, err := e.snapshotter().Usage(runtime.WithNamespace(ctx), info.ID)
	if err != nil {
		return 0, 0, fmt.Errorf("measure %s: %w", info.ID, err)
	}
	img, err := e.Images.Get(ctx, info.ImageID)
	if err != nil {
		return usage.Size, usage.Size, nil //nolint:nilerr // the image is gone by force: what it had is not known any more
	}
	total = usage.Size
	for _, layer := range e.Images.LayerSizes(ctx, img) {
		total += layer
	}
	return usage.Size, total, nil
}

// Pids returns the IDs of a running container's processes in the host's PID namespace. A container that does not run is a conflict.
func (e *Engine) Pids(ctx context.Context, ref string) ([]int, error) {
	_, info, task, err := e.findRunning(ref)
	if err != nil {
		return nil, err
	}
	list, err := task.Pids(runtime.WithNamespace(ctx))
	if err != nil {
		return nil, fmt.Errorf("list processes of %s: %w", info.ID, err)
	}
	pids := make([]int, 0, len(list))
	for _, p := range list {
		pids = append(pids, int(p.Pid))
	}
	return pids, nil
}

// cgroupPath is a container's cgroup, by default under the node's own parent, so that nodes on one machine do not share cgroups.
func (e *Engine) cgroupPath(info Info) string {
	return filepath.Join("/", cmp.Or(info.Spec.CgroupParent, e.CgroupParent), info.ID)
}

// linuxResources converts limits to the form of the OCI configuration. A limit of a device that is not there is an invalid argument.
func linuxResources(r Resources) (*specs.LinuxResources, error) {
	out := &specs.LinuxResources{Memory: &specs.LinuxMemory{}, CPU: &specs.LinuxCPU{Cpus: r.CpusetCpus, Mems: r.CpusetMems}}
	setLimit := func(to **int64, n int64) {
		if n != 0 {
			*to = &n
		}
	}
	setLimit(&out.Memory.Limit, r.Memory)
	setLimit(&out.Memory.Reservation, r.MemoryReservation)
	if r.Memory > 0 {
		setLimit(&out.Memory.Swap, 2*r.Memory) // the default is Docker's; the number is that of memory and swap together
	}
	setLimit(&out.Memory.Swap, r.MemorySwap)
	if r.Swappiness != nil && !cgroup.V2() {
		swappiness := uint64(*r.Swappiness)
		out.Memory.Swappiness = &swappiness
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
		const micros, nanosPerCPU = 100_000, 1_000_000_000
		quota, period = r.NanoCPUs*micros/nanosPerCPU, micros
	}
	setLimit(&out.CPU.Quota, quota)
	if period > 0 {
		out.CPU.Period = &period
	}
	if r.Pids != 0 {
		out.Pids = &specs.LinuxPids{Limit: &r.Pids}
	}
	if r.Swappiness != nil && !cgroup.V2() {
		swappiness := uint64(*r.Swappiness) // #nosec G115 -- 0 to 100
		out.Memory.Swappiness = &swappiness
	}
	var err error
	out.BlockIO, err = blockIO(r)
	return out, err
}

// blockIO converts the weights and limits of block devices, nil if there are none.
func blockIO(r Resources) (*specs.LinuxBlockIO, error) {
	out := &specs.LinuxBlockIO{}
	if r.BlkioWeight > 0 {
		out.Weight = &r.BlkioWeight
	}
	for _, w := range r.BlkioWeights {
		major, minor, err := deviceNumber(w.Path)
		if err != nil {
			return nil, err
		}
		weight := uint16(w.N) // #nosec G115 -- as it came
		d := specs.LinuxWeightDevice{Weight: &weight}
		d.Major, d.Minor = major, minor
		out.WeightDevice = append(out.WeightDevice, d)
	}
	for _, limits := range []struct {
		from []DeviceLimit
		to   *[]specs.LinuxThrottleDevice
	}{
		{r.BlkioReadBps, &out.ThrottleReadBpsDevice}, {r.BlkioWriteBps, &out.ThrottleWriteBpsDevice},
		{r.BlkioReadOperations, &out.ThrottleReadIOPSDevice}, {r.BlkioWriteOperations, &out.ThrottleWriteIOPSDevice},
	} {
		for _, l := range limits.from {
			major, minor, err := deviceNumber(l.Path)
			if err != nil {
				return nil, err
			}
			d := specs.LinuxThrottleDevice{Rate: l.N}
			d.Major, d.Minor = major, minor
			*limits.to = append(*limits.to, d)
		}
	}
	if reflect.ValueOf(*out).IsZero() {
		return nil, nil
	}
	return out, nil
}

// deviceNumber is the number of a device of the host.
func deviceNumber(path string) (major, minor int64, err error) {
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		return 0, 0, errdefs.ErrInvalidArgument.WithMessage((&os.PathError{Op: "stat", Path: path, Err: err}).Error())
	}
	return int64(unix.Major(st.Rdev)), int64(unix.Minor(st.Rdev)), nil
}
