package dispatcher

import (
	"slices"

	"github.com/shoal-dev/shoal/internal/shoal"
)

// kernelState is how far a node's kernel is known to have followed its tables. The zero value is that of a node that nothing is known of.
type kernelState struct {
	// revision is the newest whose changes the kernel has, save those of lagging networks.
	revision uint64
	// lagging is the networks that the kernel has refused to bring up to date, with the newest revision that it has of each. It is replaced, not changed.
	lagging map[shoal.NetworkID]uint64
}

// revisionOf is the newest revision whose changes of the network the kernel has.
func (k kernelState) revisionOf(network shoal.NetworkID) uint64 {
	if revision, ok := k.lagging[network]; ok {
		return revision
	}
	return k.revision
}

// acknowledged is the state after a table of the version was applied, save for the lagging networks.
func (k kernelState) acknowledged(version uint64, lagging []shoal.NetworkID) kernelState {
	next := kernelState{revision: version}
	for _, network := range lagging {
		if next.lagging == nil {
			next.lagging = map[shoal.NetworkID]uint64{}
		}
		next.lagging[network] = k.revisionOf(network)
	}
	return next
}

// known is how far the node's kernel is known to be. The table that it has applied is also right for all revisions that have changed nothing in it.
func (s *session) known() kernelState {
	known := s.applied
	if known.revision >= s.sentVersion {
		known.revision = max(known.revision, s.unaffectedUpTo)
	}
	return known
}

// acknowledgeLocked takes note that the agent has applied a table, save for the lagging networks.
func (s *session) acknowledgeLocked(version uint64, lagging []shoal.NetworkID) {
	if version < s.applied.revision {
		return
	}
	before := s.applied
	s.applied = s.known().acknowledged(version, lagging)
	s.logLagging(before, lagging)
	s.d.finishDrainsLocked(s.d.cfg.Store.View())
}

// logLagging logs which networks have begun to lag, and that none lags any more.
func (s *session) logLagging(before kernelState, lagging []shoal.NetworkID) {
	began := slices.DeleteFunc(slices.Clone(lagging), func(id shoal.NetworkID) bool { _, ok := before.lagging[id]; return ok })
	switch {
	case len(began) > 0:
		s.d.cfg.Log.Warn("a node cannot bring networks up to date; tasks on them that are to stop wait for it until their grace is over; `shoal doctor` on the node names the cause", "node", s.node, "networks", began)
	case len(lagging) == 0 && len(before.lagging) > 0:
		s.d.cfg.Log.Info("all networks of a node are up to date again", "node", s.node)
	}
}
