package engine

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
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
	request := apiRequest(info)
	if info.Spec.AutoRemove && body.RestartPolicy.Name != "" && body.RestartPolicy.Name != "no" {
		return server.Errorf(http.StatusConflict, "Restart policy cannot be updated because AutoRemove is enabled for the container")
	}
	warnings, err := validateResources(&body.Resources, true)
	if err != nil {
		return err
	}
	if err := mergeResources(&request.HostConfig.Resources, body.Resources); err != nil {
		return server.Errorf(http.StatusBadRequest, "Cannot update container %s: %v", info.ID, err)
	}
	var restart *container.Restart
	if body.RestartPolicy.Name != "" {
		if err := validateRestart(body.RestartPolicy); err != nil {
			return err
		}
		request.HostConfig.RestartPolicy = body.RestartPolicy
		restart = &container.Restart{Name: string(body.RestartPolicy.Name), MaxRetries: body.RestartPolicy.MaximumRetryCount}
	}
	var raw []byte
	if info.Spec.API != nil {
		if raw, err = json.Marshal(request); err != nil {
			return fmt.Errorf("keep request: %w", err)
		}
	}
	if err := c.engine.Update(r.Context(), info.ID, fromAPIResources(request.HostConfig.Resources), restart, raw); err != nil {
		return err
	}
	return server.WriteJSON(w, http.StatusOK, apicontainer.UpdateResponse{Warnings: warnings})
}

func fromAPIResources(r apicontainer.Resources) container.Resources {
	out := container.Resources{
		Memory: r.Memory, MemorySwap: r.MemorySwap, MemoryReservation: r.MemoryReservation, NanoCPUs: r.NanoCPUs, CPUShares: r.CPUShares,
		CPUQuota: r.CPUQuota, CPUPeriod: r.CPUPeriod, CpusetCpus: r.CpusetCpus, CpusetMems: r.CpusetMems, BlkioWeight: r.BlkioWeight,
		OomKillDisable: r.OomKillDisable != nil && *r.OomKillDisable,
	}
	if r.PidsLimit != nil {
		if out.Pids = *r.PidsLimit; out.Pids <= 0 {
			out.Pids = -1
		}
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
		{"OomKillDisable", r.OomKillDisable != nil && *r.OomKillDisable},
	} {
		if field.given {
			return server.BadRequest("%s cannot be changed by an update: it is fixed when a container is created", field.name)
		}
	}
	return nil
}

// mergeResources replaces the limits of a container by those that an update sets, and refuses ones that contradict the others.
func mergeResources(base *apicontainer.Resources, over apicontainer.Resources) error {
	switch {
	case over.NanoCPUs > 0 && base.CPUPeriod > 0:
		return errors.New("Conflicting options: Nano CPUs cannot be updated as CPU Period has already been set") //nolint:staticcheck // Docker's wording
	case over.NanoCPUs > 0 && base.CPUQuota > 0:
		return errors.New("Conflicting options: Nano CPUs cannot be updated as CPU Quota has already been set") //nolint:staticcheck // Docker's wording
	case over.CPUPeriod > 0 && base.NanoCPUs > 0:
		return errors.New("Conflicting options: CPU Period cannot be updated as NanoCPUs has already been set") //nolint:staticcheck // Docker's wording
	case over.CPUQuota > 0 && base.NanoCPUs > 0:
		return errors.New("Conflicting options: CPU Quota cannot be updated as NanoCPUs has already been set") //nolint:staticcheck // Docker's wording
	case over.Memory > 0 && over.MemorySwap == 0 && base.MemorySwap > 0 && over.Memory > base.MemorySwap:
		return errors.New("Memory limit should be smaller than already set memoryswap limit, update the memoryswap at the same time") //nolint:staticcheck // Docker's wording
	}
	for _, p := range []struct{ to, from *int64 }{
		{&base.Memory, &over.Memory}, {&base.MemorySwap, &over.MemorySwap}, {&base.MemoryReservation, &over.MemoryReservation},
		{&base.NanoCPUs, &over.NanoCPUs}, {&base.CPUShares, &over.CPUShares}, {&base.CPUQuota, &over.CPUQuota}, {&base.CPUPeriod, &over.CPUPeriod},
	} {
		if *p.from != 0 {
			*p.to = *p.from
		}
	}
	base.BlkioWeight = cmp.Or(over.BlkioWeight, base.BlkioWeight)
	mergeBlockIO(base, over)
	base.CpusetCpus, base.CpusetMems = cmp.Or(over.CpusetCpus, base.CpusetCpus), cmp.Or(over.CpusetMems, base.CpusetMems)
	if over.PidsLimit != nil {
		limit := max(*over.PidsLimit, 0)
		base.PidsLimit = &limit
	}
	return nil
}

// mergeBlockIO replaces the weights and limits of devices by those that an update gives. An empty list takes them away.
func mergeBlockIO(base *apicontainer.Resources, over apicontainer.Resources) {
	if over.BlkioWeightDevice != nil {
		base.BlkioWeightDevice = over.BlkioWeightDevice
	}
	for _, l := range []struct{ to, from *[]*blkiodev.ThrottleDevice }{
		{&base.BlkioDeviceReadBps, &over.BlkioDeviceReadBps}, {&base.BlkioDeviceWriteBps, &over.BlkioDeviceWriteBps},
		{&base.BlkioDeviceReadIOps, &over.BlkioDeviceReadIOps}, {&base.BlkioDeviceWriteIOps, &over.BlkioDeviceWriteIOps},
	} {
		if *l.from != nil {
			*l.to = *l.from
		}
	}
}
