package cluster

import (
	"cmp"
	"time"

	"github.com/moby/moby/api/types/swarm"

	"github.com/shoal-dev/shoal/internal/shoal"
)

// defaultMonitor is how long an update watches the tasks that it has started.
const defaultMonitor = 5 * time.Second

// insertDefaults fills in what the user left to the engine.
func insertDefaults(s *swarm.ServiceSpec) {
	if c := s.TaskTemplate.ContainerSpec; c != nil {
		grace := shoal.DefaultStopGracePeriod
		c.StopGracePeriod = cmp.Or(c.StopGracePeriod, &grace)
		c.DNSConfig = cmp.Or(c.DNSConfig, &swarm.DNSConfig{})
	}
	delay, attempts := shoal.DefaultRestartDelay, uint64(0)
	s.TaskTemplate.RestartPolicy = cmp.Or(s.TaskTemplate.RestartPolicy, &swarm.RestartPolicy{})
	policy := *s.TaskTemplate.RestartPolicy
	policy.Condition = cmp.Or(policy.Condition, swarm.RestartPolicyConditionAny)
	policy.Delay, policy.MaxAttempts = cmp.Or(policy.Delay, &delay), cmp.Or(policy.MaxAttempts, &attempts)
	s.TaskTemplate.RestartPolicy = &policy
	s.TaskTemplate.Placement = cmp.Or(s.TaskTemplate.Placement, &swarm.Placement{})
	if s.Mode.Replicated != nil || s.Mode.Global != nil {
		defaults := swarm.UpdateConfig{
			Parallelism: 1, FailureAction: swarm.UpdateFailureActionPause, Monitor: defaultMonitor, Order: swarm.UpdateOrderStopFirst,
		}
		s.UpdateConfig, s.RollbackConfig = updateConfigOr(s.UpdateConfig, defaults), updateConfigOr(s.RollbackConfig, defaults)
	}
	s.EndpointSpec = cmp.Or(s.EndpointSpec, &swarm.EndpointSpec{})
	s.EndpointSpec.Mode = cmp.Or(s.EndpointSpec.Mode, swarm.ResolutionModeVIP)
}

// updateConfigOr is the given settings, with the default for the time that Docker never leaves open.
func updateConfigOr(given *swarm.UpdateConfig, defaults swarm.UpdateConfig) *swarm.UpdateConfig {
	if given == nil {
		return &defaults
	}
	out := *given
	out.Monitor = cmp.Or(out.Monitor, defaults.Monitor)
	return &out
}
