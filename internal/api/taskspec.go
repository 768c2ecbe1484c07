package api

import (
	"net/http"
	"os"

	"github.com/moby/moby/api/types/swarm"

	"github.com/shoal-dev/shoal/internal/shoal"
)

func badRequest(format string, args ...any) error {
	return fail(http.StatusBadRequest, format, args...)
}

func fileMode(m uint32) os.FileMode { return os.FileMode(m) }

func taskSpecTo(t shoal.TaskSpec) swarm.TaskSpec {
	out := swarm.TaskSpec{
		ContainerSpec: containerSpecTo(t.Container), Resources: resourcesTo(t.Resources), Placement: placementTo(t.Placement),
		Networks: each(t.Networks, attachmentTo), LogDriver: driverTo(t.LogDriver), ForceUpdate: t.ForceUpdate,
	}
	if t.Attachment != nil {
		out.NetworkAttachmentSpec = &swarm.NetworkAttachmentSpec{ContainerID: t.Attachment.ContainerID}
	}
	if r := t.Restart; r != nil {
		out.RestartPolicy = &swarm.RestartPolicy{
			Condition: swarm.RestartPolicyCondition(r.Condition), Delay: r.Delay, MaxAttempts: r.MaxAttempts, Window: r.Window,
		}
	}
	return out
}

func taskSpecFrom(t swarm.TaskSpec) (shoal.TaskSpec, error) {
	out := shoal.TaskSpec{
		Resources: resourcesFrom(t.Resources), Placement: placementFrom(t.Placement), Networks: each(t.Networks, attachmentFrom),
		LogDriver: driverFrom(t.LogDriver), ForceUpdate: t.ForceUpdate,
	}
	if t.PluginSpec != nil || t.Runtime == swarm.RuntimePlugin {
		return out, fail(http.StatusNotImplemented, "services that run plugins are not supported")
	}
	if t.NetworkAttachmentSpec != nil {
		return out, badRequest("a service cannot have a NetworkAttachmentSpec")
	}
	var err error
	if out.Container, err = containerSpecFrom(t.ContainerSpec); err != nil {
		return out, err
	}
	if r := t.RestartPolicy; r != nil {
		switch r.Condition {
		case "", swarm.RestartPolicyConditionAny, swarm.RestartPolicyConditionNone, swarm.RestartPolicyConditionOnFailure:
		default:
			return out, badRequest("invalid RestartCondition: %q", r.Condition)
		}
		out.Restart = &shoal.RestartPolicy{
			Condition: shoal.RestartCondition(r.Condition), Delay: r.Delay, MaxAttempts: r.MaxAttempts, Window: r.Window,
		}
	}
	return out, nil
}

func attachmentTo(a shoal.NetworkAttachmentSpec) swarm.NetworkAttachmentConfig {
	return swarm.NetworkAttachmentConfig{Target: a.Target, Aliases: a.Aliases, DriverOpts: a.DriverOpts}
}

func attachmentFrom(a swarm.NetworkAttachmentConfig) shoal.NetworkAttachmentSpec {
	return shoal.NetworkAttachmentSpec{Target: a.Target, Aliases: a.Aliases, DriverOpts: a.DriverOpts}
}

func resourcesTo(r *shoal.ResourceRequirements) *swarm.ResourceRequirements {
	if r == nil {
		return nil
	}
	out := &swarm.ResourceRequirements{SwapBytes: r.SwapBytes, MemorySwappiness: r.MemorySwappiness}
	if l := r.Limits; l != nil {
		out.Limits = &swarm.Limit{NanoCPUs: l.NanoCPUs, MemoryBytes: l.MemoryBytes, Pids: l.Pids}
	}
	if r.Reservations != nil {
		amounts := amountsTo(*r.Reservations)
		out.Reservations = &amounts
	}
	return out
}

func resourcesFrom(r *swarm.ResourceRequirements) *shoal.ResourceRequirements {
	if r == nil {
		return nil
	}
	out := &shoal.ResourceRequirements{SwapBytes: r.SwapBytes, MemorySwappiness: r.MemorySwappiness}
	if l := r.Limits; l != nil {
		out.Limits = &shoal.Limits{NanoCPUs: l.NanoCPUs, MemoryBytes: l.MemoryBytes, Pids: l.Pids}
	}
	if a := r.Reservations; a != nil {
		out.Reservations = &shoal.Resources{NanoCPUs: a.NanoCPUs, MemoryBytes: a.MemoryBytes}
		for _, g := range a.GenericResources {
			if n := g.NamedResourceSpec; n != nil {
				out.Reservations.Generic = append(out.Reservations.Generic, shoal.GenericResource{Kind: n.Kind, Named: n.Value})
			}
			if d := g.DiscreteResourceSpec; d != nil {
				out.Reservations.Generic = append(out.Reservations.Generic, shoal.GenericResource{Kind: d.Kind, Count: d.Value})
			}
		}
	}
	return out
}

func amountsTo(r shoal.Resources) swarm.Resources {
	return swarm.Resources{NanoCPUs: r.NanoCPUs, MemoryBytes: r.MemoryBytes, GenericResources: each(r.Generic, genericTo)}
}

func genericTo(g shoal.GenericResource) swarm.GenericResource {
	if g.Named != "" {
		return swarm.GenericResource{NamedResourceSpec: &swarm.NamedGenericResource{Kind: g.Kind, Value: g.Named}}
	}
	return swarm.GenericResource{DiscreteResourceSpec: &swarm.DiscreteGenericResource{Kind: g.Kind, Value: g.Count}}
}

func placementTo(p *shoal.Placement) *swarm.Placement {
	if p == nil {
		return nil
	}
	return &swarm.Placement{
		Constraints: p.Constraints, MaxReplicas: p.MaxReplicas,
		Preferences: each(p.Preferences, func(p shoal.PlacementPreference) swarm.PlacementPreference {
			return swarm.PlacementPreference{Spread: &swarm.SpreadOver{SpreadDescriptor: p.SpreadOver}}
		}),
		Platforms: each(p.Platforms, func(p shoal.Platform) swarm.Platform {
			return swarm.Platform{OS: p.OS, Architecture: p.Architecture}
		}),
	}
}

func placementFrom(p *swarm.Placement) *shoal.Placement {
	if p == nil {
		return nil
	}
	out := &shoal.Placement{
		Constraints: p.Constraints, MaxReplicas: p.MaxReplicas,
		Platforms: each(p.Platforms, func(p swarm.Platform) shoal.Platform {
			return shoal.Platform{OS: p.OS, Architecture: p.Architecture}
		}),
	}
	for _, preference := range p.Preferences {
		if preference.Spread != nil {
			out.Preferences = append(out.Preferences, shoal.PlacementPreference{SpreadOver: preference.Spread.SpreadDescriptor})
		}
	}
	return out
}
