package engine

import (
	"net/http"

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
	if err := validateResources(body.Resources); err != nil {
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
	return out
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
	return base
}
