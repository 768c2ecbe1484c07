package cluster

import (
	"github.com/moby/moby/api/types/swarm"

	"github.com/shoal-dev/shoal/internal/api/convert"
	"github.com/shoal-dev/shoal/internal/shoal"
	"github.com/shoal-dev/shoal/internal/store"
)

// newConfigs serves /configs.
func newConfigs(state StateSource) *dataObjects {
	return &dataObjects{
		state: state, kind: "config", maxSize: maxConfigSize,
		all: func(v store.View) []*shoal.Secret {
			return convert.List(v.Configs(), func(c *shoal.Config) *shoal.Secret { return (*shoal.Secret)(c) })
		},
		object:     func(s *shoal.Secret) store.Object { return (*shoal.Config)(s) },
		toAPI:      func(s *shoal.Secret) any { return toAPIConfig(s) },
		references: func(c *shoal.ContainerSpec) *[]shoal.FileReference { return &c.Configs },
	}
}

func toAPIConfig(s *shoal.Secret) swarm.Config {
	return swarm.Config{ID: s.ID, Meta: toAPIMeta(s.Meta), Spec: swarm.ConfigSpec{
		Annotations: swarm.Annotations{Name: s.Name, Labels: convert.NonNil(s.Labels)}, Data: s.Data, Templating: convert.ToAPIDriver(s.Templating),
	}}
}
