package shoal

// Labels on a service by which users ask for what Docker's API has no field for.
const (
	// LabelRebalance, "true", moves tasks of a replicated service to nodes that have become emptier (docs/rebalance.md).
	LabelRebalance = "shoal.rebalance"
	// LabelRebalanceBudget is how many tasks rebalancing may move at once.
	LabelRebalanceBudget = "shoal.rebalance.budget"
	// LabelRebalanceCooldown is how long no task of the service may have been created or started before the next move ("30s").
	LabelRebalanceCooldown = "shoal.rebalance.cooldown"
	// LabelDrainMinAvailable is how many tasks of the service must run while nodes are drained (docs/drain.md).
	LabelDrainMinAvailable = "shoal.drain.min-available"
	// LabelDependsOn lists the services, separated by commas, that must run before this one starts (docs/depends-on.md).
	LabelDependsOn = "shoal.depends-on"
	// LabelFollow, "true", allows the data of the secrets and configs that the service uses to be replaced, which updates the service
	// (docs/secrets.md).
	LabelFollow = "shoal.follow"
	// LabelStack is the label by which Docker's CLI marks the services of a stack with its name.
	LabelStack = "com.docker.stack.namespace"
)
