package cluster

import (
	"net/http"
	"slices"

	"github.com/moby/moby/api/types/swarm"

	"github.com/shoal-dev/shoal/internal/api/convert"
	"github.com/shoal-dev/shoal/internal/api/server"
	"github.com/shoal-dev/shoal/internal/shoal"
)

func toAPITaskSpec(t shoal.TaskSpec) swarm.TaskSpec {
	out := swarm.TaskSpec{
		ContainerSpec: toAPIContainerSpec(t.Container), Resources: toAPIResourceRequirements(t.Resources), Placement: toAPIPlacement(t.Placement),
		Networks: convert.List(t.Networks, toAPIAttachment), LogDriver: convert.ToAPIDriver(t.LogDriver), ForceUpdate: t.ForceUpdate,
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

func fromAPITaskSpec(t swarm.TaskSpec) (shoal.TaskSpec, error) {
	out := shoal.TaskSpec{
		Resources: fromAPIResourceRequirements(t.Resources), Placement: fromAPIPlacement(t.Placement), Networks: convert.List(t.Networks, fromAPIAttachment),
		LogDriver: convert.FromAPIDriver(t.LogDriver), ForceUpdate: t.ForceUpdate,
	}
	if t.PluginSpec != nil || t.Runtime == swarm.RuntimePlugin {
		return out, server.Errorf(http.StatusNotImplemented, "services that run plugins are not supported")
	}
	if t.Runtime != "" && t.Runtime != swarm.RuntimeContainer {
		return out, server.BadRequest("unsupported runtime")
	}
	if t.NetworkAttachmentSpec != nil {
		return out, server.BadRequest("a service cannot have a NetworkAttachmentSpec")
	}
	if t.Placement != nil && slices.ContainsFunc(t.Placement.Preferences, func(p swarm.PlacementPreference) bool { return p.Spread == nil }) {
		return out, server.BadRequest("invalid placement preference: only spread is known")
	}
	var err error
	if out.Container, err = fromAPIContainerSpec(t.ContainerSpec); err != nil {
		return out, err
	}
	if r := t.RestartPolicy; r != nil {
		switch r.Condition {
		case "", swarm.RestartPolicyConditionAny, swarm.RestartPolicyConditionNone, swarm.RestartPolicyConditionOnFailure:
		default:
			return out, server.BadRequest("invalid RestartCondition: %q", r.Condition)
		}
		out.Restart = &shoal.RestartPolicy{
			Condition: shoal.RestartCondition(r.Condition), Delay: r.Delay, MaxAttempts: r.MaxAttempts, Window: r.Window,
		}
	}
	return out, nil
}

func toAPIAttachment(a shoal.NetworkAttachmentSpec) swarm.NetworkAttachmentConfig {
	return swarm.NetworkAttachmentConfig{Target: a.Target, Aliases: a.Aliases, DriverOpts: a.DriverOpts}
}

// fromAPIAttachment keeps as Target what the client has sent, which may be the name of a network: resolveNetworks replaces it by the ID
// before the spec is stored.
func fromAPIAttachment(a swarm.NetworkAttachmentConfig) shoal.NetworkAttachmentSpec {
	return shoal.NetworkAttachmentSpec{Target: a.Target, Aliases: a.Aliases, DriverOpts: a.DriverOpts}
}

func toAPIResourceRequirements(r *shoal.ResourceRequirements) *swarm.ResourceRequirements {
	if r == nil {
		return nil
	}
	out := &swarm.ResourceRequirements{SwapBytes: r.SwapBytes, MemorySwappiness: r.MemorySwappiness}
	if l := r.Limits; l != nil {
		out.Limits = &swarm.Limit{NanoCPUs: l.NanoCPUs, MemoryBytes: l.MemoryBytes, Pids: l.Pids}
	}
	if r.Reservations != nil {
		amounts := toAPIResources(*r.Reservations)
		out.Reservations = &amounts
	}
	return out
}

func fromAPIResourceRequirements(r *swarm.ResourceRequirements) *shoal.ResourceRequirements {
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

func toAPIResources(r shoal.Resources) swarm.Resources {
	return swarm.Resources{NanoCPUs: r.NanoCPUs, MemoryBytes: r.MemoryBytes, GenericResources: convert.List(r.Generic, toAPIGenericResource)}
}

func toAPIGenericResource(g shoal.GenericResource) swarm.GenericResource {
	if g.Named != "" {
		return swarm.GenericResource{NamedResourceSpec: &swarm.NamedGenericResource{Kind: g.Kind, Value: g.Named}}
	}
	return swarm.GenericResource{DiscreteResourceSpec: &swarm.DiscreteGenericResource{Kind: g.Kind, Value: g.Count}}
}

func toAPIPlacement(p *shoal.Placement) *swarm.Placement {
	if p == nil {
		return nil
	}
	return &swarm.Placement{
		Constraints: p.Constraints, MaxReplicas: p.MaxReplicas,
		Preferences: convert.List(p.Preferences, func(p shoal.PlacementPreference) swarm.PlacementPreference {
			return swarm.PlacementPreference{Spread: &swarm.SpreadOver{SpreadDescriptor: p.SpreadOver}}
		}),
		Platforms: convert.List(p.Platforms, func(p shoal.Platform) swarm.Platform {
			return swarm.Platform{OS: p.OS, Architecture: p.Architecture}
		}),
	}
}

func fromAPIPlacement(p *swarm.Placement) *shoal.Placement {
	if p == nil {
		return nil
	}
	out := &shoal.Placement{
		Constraints: p.Constraints, MaxReplicas: p.MaxReplicas,
		Platforms: convert.List(p.Platforms, func(p swarm.Platform) shoal.Platform {
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
