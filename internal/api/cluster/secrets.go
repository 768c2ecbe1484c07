package cluster

import (
	"github.com/moby/moby/api/types/swarm"

	"github.com/shoal-dev/shoal/internal/api/convert"
	"github.com/shoal-dev/shoal/internal/shoal"
	"github.com/shoal-dev/shoal/internal/store"
)

// newSecrets serves /secrets. Their data never leaves through the API.
func newSecrets(state StateSource) *dataObjects {
	return &dataObjects{
		state: state, kind: "secret", maxSize: maxSecretSize,
		all:        store.View.Secrets,
		object:     func(s *shoal.Secret) store.Object { return s },
		toAPI:      func(s *shoal.Secret) any { return toAPISecret(s) },
		references: func(c *shoal.ContainerSpec) *[]shoal.FileReference { return &c.Secrets },
	}
}

func toAPISecret(s *shoal.Secret) swarm.Secret {
	return swarm.Secret{ID: s.ID, Meta: toAPIMeta(s.Meta), Spec: swarm.SecretSpec{
		Annotations: swarm.Annotations{Name: s.Name, Labels: convert.NonNil(s.Labels)}, Driver: convert.ToAPIDriver(s.Driver), Templating: convert.ToAPIDriver(s.Templating),
	}}
}
