package membership

import (
	"context"
	"log/slog"
	"time"

	"github.com/shoal-dev/shoal/internal/shoal"
	"github.com/shoal-dev/shoal/internal/store"
)

// Roster makes the store's members follow the nodes' roles: it removes members whose nodes are demoted or gone. It also completes
// rotations of the root certificate and renews the secret of encrypted traffic. It works only while its manager leads; the next
// leader continues whatever is unfinished.
type Roster struct {
	Log        *slog.Logger
	Node       shoal.NodeID // of this manager
	Store      *store.Store
	Members    Members
	Leadership Leadership
	// Resign hands leadership to another manager.
	Resign func() error
}

// orphanCheckInterval is how often members without a node are looked for; no change in the store announces them.
const orphanCheckInterval = 2 * time.Second

// Run works until ctx ends.
func (r *Roster) Run(ctx context.Context) error {
	view, sub := r.Store.Subscribe()
	defer sub.Close()
	changed := make(chan struct{}, 1)
	go func() {
		for {
			if _, err := sub.Next(ctx); err != nil {
				return
			}
			select {
			case changed <- struct{}{}:
			default:
			}
		}
	}()
	ticker := time.NewTicker(orphanCheckInterval)
	defer ticker.Stop()
	orphans := map[string]bool{}
	for {
		if _, leads, _ := r.Leadership.Leader(); leads {
			r.demote(ctx, view)
			r.finishRotation(ctx, view)
			r.renewTunnelSecret(ctx, view)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-changed:
		case <-ticker.C:
			if _, leads, _ := r.Leadership.Leader(); leads {
				orphans = r.removeOrphans(ctx, orphans)
			}
		}
		view = r.Store.View()
	}
}

// demote takes managers that are to be workers out of the store's members.
func (r *Roster) demote(ctx context.Context, view store.View) {
	for _, n := range view.Nodes() {
		if n.Manager == nil || n.Spec.Role != shoal.RoleWorker {
			continue
		}
		var err error
		if n.ID == r.Node {
			err = r.Resign() // the next leader does it
		} else {
			err = r.remove(ctx, n.ID)
		}
		if err != nil && ctx.Err() == nil {
			r.Log.Error("manager cannot be demoted; it is tried again", "node", n.ID, "err", err)
		}
	}
}

// finishRotation ends the trust in the old root when no node needs it any more.
func (r *Roster) finishRotation(ctx context.Context, view store.View) {
	if !rotated(view) {
		return
	}
	err := r.Store.Update(ctx, func(view store.View) (store.Changes, error) {
		var changes store.Changes
		if !rotated(view) {
			return changes, nil
		}
		cluster := *view.Cluster()
		err := finishRotation(&cluster)
		changes.Put(&cluster)
		return changes, err
	})
	if err != nil && ctx.Err() == nil {
		r.Log.Error("rotation of the root certificate cannot be finished; the old root stays trusted, and it is tried again", "err", err)
	}
}

func (r *Roster) remove(ctx context.Context, node shoal.NodeID) error {
	const limit = 10 * time.Second
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	if err := r.Members.Remove(ctx, node); err != nil {
		return err
	}
	r.Log.Info("node is no manager any more", "node", node)
	return r.Store.Update(ctx, func(view store.View) (store.Changes, error) {
		var changes store.Changes
		if node := view.Node(node); node != nil && node.Manager != nil && node.Spec.Role == shoal.RoleWorker {
			n := *node
			n.Manager = nil
			changes.Put(&n)
		}
		return changes, nil
	})
}

// removeOrphans finishes what managers began that then failed: learners get their vote, and members that belong to no node for two
// looks in a row (a new one may be ahead of the view) are removed. It gives those seen for the first time.
func (r *Roster) removeOrphans(ctx context.Context, before map[string]bool) map[string]bool {
	const limit = 10 * time.Second
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	known, self := map[string]bool{}, ""
	for _, n := range r.Store.View().Nodes() {
		if n.Manager != nil {
			known[n.Manager.PeerURL] = true
			if n.ID == r.Node {
				self = n.Manager.MemberID
			}
		}
	}
	orphans := map[string]bool{}
	if len(known) == 0 {
		return orphans // the cluster is being founded
	}
	all, err := r.Members.List(ctx)
	if err != nil {
		r.Log.Error("the store's members cannot be listed; members without a node are not removed for now", "err", err)
		return orphans
	}
	for _, m := range all {
		switch {
		case m.ID == self: // its address may be about to change
		case known[m.PeerURL] && m.Learner && m.Started:
			err = r.Members.Promote(ctx, m.ID)
		case !known[m.PeerURL] && before[m.ID]:
			r.Log.Warn("remove a store member that belongs to no node", "member", m.ID, "url", m.PeerURL)
			err = r.Members.RemoveMember(ctx, m.ID)
		case !known[m.PeerURL]:
			orphans[m.ID] = true
		}
		if err != nil && ctx.Err() == nil {
			r.Log.Error("store member can be neither promoted nor removed; it is tried again", "member", m.ID, "err", err)
		}
		err = nil
	}
	return orphans
}
