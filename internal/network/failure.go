package network

import (
	"context"
	"errors"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/shoal-dev/shoal/internal/dataplane"
	"github.com/shoal-dev/shoal/internal/network/diagnosis"
	"github.com/shoal-dev/shoal/internal/shoal"
)

// longestRetryPause bounds how long a part that could not be applied waits for the next attempt.
const longestRetryPause = 30 * time.Second

// Problems describes, a sentence each, what the kernel should have and does not.
func (n *Networks) Problems() []string {
	n.applyMu.Lock()
	failed := partErrors(n.applyErr)
	n.applyMu.Unlock()
	n.mu.Lock()
	defer n.mu.Unlock()
	var out []string
	for _, err := range failed {
		var part *dataplane.PartError
		if !errors.As(err, &part) {
			out = append(out, "networks could not be applied, and are tried again: "+err.Error())
			continue
		}
		what := diagnosis.DescribeParts([]string{part.Part}, n.directory.Table().Networks, n.sandboxes)
		out = append(out, what[0]+" could not be applied, and is tried again: "+part.Err.Error())
	}
	return out
}

// partErrors is the errors that an error of Apply joins.
func partErrors(err error) []error {
	var joined interface{ Unwrap() []error }
	switch {
	case err == nil:
		return nil
	case errors.As(err, &joined):
		return joined.Unwrap()
	}
	return []error{err}
}

// lagging is the networks on which connections of this node may still be balanced by what was applied earlier, after an error of Apply. Containers balance
// connections to virtual addresses, and the node's rules those to ports of the mesh. Bridges, overlays and the like only carry packets.
func (n *Networks) lagging(err error) []shoal.NetworkID {
	n.mu.Lock()
	defer n.mu.Unlock()
	all, lag := n.directory.Table().Networks, map[shoal.NetworkID]bool{}
	for _, err := range partErrors(err) {
		var part *dataplane.PartError
		if !errors.As(err, &part) {
			return slices.Sorted(maps.Keys(all)) // nobody knows
		}
		if part.Part == dataplane.PartPorts {
			if ingress, ok := n.directory.Ingress(); ok {
				lag[ingress.ID] = true
			}
		}
		name, ok := strings.CutPrefix(part.Part, dataplane.SandboxPrefix)
		if _, harmless := errors.AsType[*dataplane.InterfaceError](part.Err); !ok || harmless {
			continue
		}
		for _, sb := range n.sandboxes.All() {
			for _, e := range sb.Endpoints {
				if e.Overlay != "" && sb.Namespace() == name {
					lag[shoal.NetworkID(e.Overlay)] = true
				}
			}
		}
	}
	return slices.Sorted(maps.Keys(lag))
}

// retryFailed applies again what could not be applied, if it has waited long enough. It logs the end of a failure, and a failure that is another one
// than before.
func (n *Networks) retryFailed(ctx context.Context) {
	n.applyMu.Lock()
	before := n.applyErr
	if before == nil {
		n.retryPause = 0
	} else if n.retryPause == 0 {
		n.retryPause, n.retryAt = repairPeriod, time.Now().Add(repairPeriod)
	}
	due := before != nil && !time.Now().Before(n.retryAt)
	if due {
		n.retryPause = min(2*n.retryPause, longestRetryPause)
		n.retryAt = time.Now().Add(n.retryPause)
	}
	n.applyMu.Unlock()
	if !due {
		return
	}
	switch err := n.converge(ctx); {
	case err == nil:
		n.log.Info("all of the network is applied again")
	case err.Error() != before.Error():
		n.logFailure(err)
	}
}
