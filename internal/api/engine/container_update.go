package engine

import (
	"net/http"

	"github.com/moby/moby/api/types/blkiodev"
	apicontainer "github.com/moby/moby/api/types/container"

	"github.com/shoal-dev/shoal/internal/api/server"
	"github.com/shoal-dev/shoal/internal/container"
)

func (c *containers) update(w http.ResponseWriter, r *http.Request) error {
	info, err := c.engine.Inspect(r.PathValue("id"))
	if err != nil {
		return err
	}
	body := struct {
		apicontainer.Resources
		RestartPolicy apicontainer.RestartPolicy
	}{}
	if err := server.ReadJSON(r, &body); err != nil {
		return err
	}
	if err := validateUpdate(body.Resources); err != nil {
		return err
	}
	merged := mergeResources(info.Spec.Resources, fromAPIResources(body.Resources))
	var restart *container.Restart
	if body.RestartPolicy.Name != "" {
		restart = &container.Restart{Name: string(body.RestartPolicy.Name), MaxRetries: body.RestartPolicy.MaximumRetryCount}
	}
	if err := c.engine.Update(r.Context(), info.ID, merged, restart); err != nil {
		return err
	}
	return server.WriteJSON(w, http.StatusOK, map[string][]string{"Warnings": {}})
}

func fromAPIResources(r apicontainer.Resources) container.Resources {
	out := container.Resources{
		Memory: r.Memory, MemorySwap: r.MemorySwap, MemoryReservation: r.MemoryReservation, NanoCPUs: r.NanoCPUs, CPUShares: r.CPUShares,
		CPUQuota: r.CPUQuota, CPUPeriod: r.CPUPeriod, CpusetCpus: r.CpusetCpus, CpusetMems: r.CpusetMems, BlkioWeight: r.BlkioWeight,
		OomKillDisable: r.OomKillDisable != nil && *r.OomKillDisable,
	}
	if r.PidsLimit != nil {
		out.Pids = *r.PidsLimit
	}
	if r.MemorySwappiness != nil && *r.MemorySwappiness >= 0 { // -1 is how clients say that they do not care
		out.Swappiness = r.MemorySwappiness
	}
	for _, w := range r.BlkioWeightDevice {
		out.BlkioWeights = append(out.BlkioWeights, container.DeviceLimit{Path: w.Path, N: uint64(w.Weight)})
	}
	for _, l := range []struct {
		from []*blkiodev.ThrottleDevice
		to   *[]container.DeviceLimit
	}{
		{r.BlkioDeviceReadBps, &out.BlkioReadBps}, {r.BlkioDeviceWriteBps, &out.BlkioWriteBps},
		{r.BlkioDeviceReadIOps, &out.BlkioReadOperations}, {r.BlkioDeviceWriteIOps, &out.BlkioWriteOperations},
	} {
		for _, d := range l.from {
			*l.to = append(*l.to, container.DeviceLimit{Path: d.Path, N: d.Rate})
		}
	}
	return out
}

// validateUpdate refuses to change what only a new container can have. Docker takes it and leaves it as it was.
func validateUpdate(r apicontainer.Resources) error {
	for _, field := range []struct {
		name  string
		given bool
	}{
		{"Ulimits", len(r.Ulimits) > 0}, {"Devices", len(r.Devices) > 0}, {"DeviceCgroupRules", len(r.DeviceCgroupRules) > 0},
		{"DeviceRequests", len(r.DeviceRequests) > 0}, {"CgroupParent", r.CgroupParent != ""}, {"MemorySwappiness", r.MemorySwappiness != nil && *r.MemorySwappiness != -1},
		{"OomKillDisable", r.OomKillDisable != nil && *r.OomKillDisable}, {"BlkioWeightDevice", len(r.BlkioWeightDevice) > 0},
		{"BlkioDeviceReadBps", len(r.BlkioDeviceReadBps) > 0}, {"BlkioDeviceWriteBps", len(r.BlkioDeviceWriteBps) > 0},
		{"BlkioDeviceReadIOps", len(r.BlkioDeviceReadIOps) > 0}, {"BlkioDeviceWriteIOps", len(r.BlkioDeviceWriteIOps) > 0},
	} {
		if field.given {
			return server.BadRequest("%s cannot be changed by an update: it is fixed when a container is created", field.name)
		}
	}
	return validateResources(r)
}

// mergeResources is base, with the fields that are set in over replaced by those.
func mergeResources(base, over container.Resources) container.Resources {
	for _, p := range []struct{ to, from *int64 }{
		{&base.Memory, &over.Memory}, {&base.MemorySwap, &over.MemorySwap}, {&base.MemoryReservation, &over.MemoryReservation},
		{&base.NanoCPUs, &over.NanoCPUs}, {&base.CPUShares, &over.CPUShares}, {&base.CPUQuota, &over.CPUQuota},
		{&base.CPUPeriod, &over.CPUPeriod}, {&base.Pids, &over.Pids},
	} {
		if *p.from != 0 {
			*p.to = *p.from
		}
	}
	if over.CpusetCpus != "" {
		base.CpusetCpus = over.CpusetCpus
	}
	if over.CpusetMems != "" {
		base.CpusetMems = over.CpusetMems
	}
	if over.BlkioWeight != 0 {
		base.BlkioWeight = over.BlkioWeight
	}
	return base
}
