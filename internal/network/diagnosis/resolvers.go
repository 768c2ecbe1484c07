package diagnosis

import (
	"context"
	"fmt"
	"slices"

	"github.com/shoal-dev/shoal/internal/dns"
)

// checkResolvers asks, in each container that has a resolver, for the container's own name.
func (c Checkup) checkResolvers(ctx context.Context) (problems []string) {
	for _, r := range c.Snapshot.Resolvers {
		err := c.Plane.Inside(r.Namespace, func() error { return dns.Ask(ctx, dns.ResolverAddr+":53", r.Name) })
		if err != nil {
			problems = append(problems, fmt.Sprintf("container %s gets no answer from its resolver: %v", r.Name, err))
		}
	}
	slices.Sort(problems)
	return problems
}
