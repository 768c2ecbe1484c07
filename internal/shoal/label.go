package shoal

// Labels on a service by which users ask for what Docker's API has no word for.
const (
	// LabelRebalance, "true", moves tasks of a replicated service to nodes that have become emptier (docs/rebalance.md).
	LabelRebalance = "shoal.rebalance"
	// LabelRebalanceBudget is how many tasks may be on the move at once.
	LabelRebalanceBudget = "shoal.rebalance.budget"
	// LabelRebalanceCooldown is how long the service must have been quiet before the next move ("30s").
	LabelRebalanceCooldown = "shoal.rebalance.cooldown"
	// LabelDrainMinAvailable is how many tasks of the service must run while nodes are drained (docs/drain.md).
	LabelDrainMinAvailable = "shoal.drain.min-available"
	// LabelDependsOn is the services, separated by commas, that must run before this one starts (docs/depends-on.md).
	LabelDependsOn = "shoal.depends-on"
	// LabelFollow, "true", lets the data of a secret or config that the service uses be replaced; the service rolls (docs/secrets.md).
	LabelFollow = "shoal.follow"
	// LabelStack is Docker's: the stack that a service belongs to.
	LabelStack = "com.docker.stack.namespace"
)
