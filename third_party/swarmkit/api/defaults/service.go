// Package defaults holds the values that `docker service create` shows in its help text.
package defaults

import (
	"time"

	"github.com/gogo/protobuf/types"
	"github.com/moby/swarmkit/v2/api"
)

var Service = api.ServiceSpec{
	Task: api.TaskSpec{
		Container: api.ContainerSpec{StopGracePeriod: types.DurationProto(10 * time.Second)},
		Restart:   &api.RestartPolicy{Condition: api.RestartOnAny, Delay: types.DurationProto(5 * time.Second)},
	},
	Update:   rollout(),
	Rollback: rollout(),
}

func rollout() *api.UpdateConfig {
	return &api.UpdateConfig{Parallelism: 1, Monitor: types.DurationProto(5 * time.Second)}
}
