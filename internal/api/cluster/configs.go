package cluster

import (
	"github.com/moby/moby/api/types/swarm"

	"github.com/shoal-dev/shoal/internal/api/convert"
	"github.com/shoal-dev/shoal/internal/shoal"
	"github.com/shoal-dev/shoal/internal/store"
)

// newConfigs serves /configs.
func newConfigs(state StateSource) *dataObjects[shoal.ConfigID] {
	return &dataObjects[shoal.ConfigID]{
		state: state, kind: "config", maxSize: maxConfigSize,
		all:        store.View.Configs,
		toAPI:      func(s *shoal.Config) any { return toAPIConfig(s) },
		references: func(c *shoal.ContainerSpec) *[]shoal.ConfigReference { return &c.Configs },
	}
}

func toAPIConfig(s *shoal.Config) swarm.Config {
	return swarm.Config{ID: string(s.ID), Meta: toAPIMeta(s.Meta), Spec: swarm.ConfigSpec{
		Annotations: swarm.Annotations{Name: s.Name, Labels: convert.NonNil(s.Labels)}, Data: s.Data, Templating: convert.ToAPIDriver(s.Templating),
	}}
}
