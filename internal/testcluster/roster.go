package testcluster

import (
	"context"
	"errors"
	"time"

	"github.com/shoal-dev/shoal/internal/daemon/swarm"
)

// Members implements swarm.Member.
func (r *replica) Members(context.Context) ([]swarm.MemberInfo, error) {
	r.log.mu.Lock()
	defer r.log.mu.Unlock()
	var all []swarm.MemberInfo
	for _, id := range r.log.idsLocked() {
		m := r.log.members[id]
		all = append(all, swarm.MemberInfo{ID: m.id, Name: m.name, PeerURL: m.peerURL, Learner: m.learner})
	}
	return all, nil
}

// Add implements swarm.Member.
func (r *replica) Add(ctx context.Context, name, peerURL string) (map[string]string, error) {
	initial := map[string]string{name: peerURL}
	return initial, r.ask(ctx, func() error {
		learners, known := 0, false
		for _, m := range r.log.members {
			if m.name != "" {
				initial[m.name] = m.peerURL
			}
			known = known || m.peerURL == peerURL
			if m.learner {
				learners++
			}
		}
		if known {
			return nil
		}
		if learners == maxLearners {
			return errors.New("add a store member: too many learners")
		}
		_, err := r.log.newMemberLocked(peerURL, true)
		return err
	})
}

// Promote implements swarm.Member.
func (r *replica) Promote(ctx context.Context, id string) error {
	for {
		ready := false
		err := r.ask(ctx, func() error {
			m := r.log.members[id]
			if m == nil {
				return errors.New("promote a store member: it is none")
			}
			if ready = r.log.connectedLocked(m) && m.name != ""; ready {
				m.learner = false
			}
			return nil
		})
		if err != nil || ready {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(retryPause):
		}
	}
}

// Remove implements swarm.Member.
func (r *replica) Remove(ctx context.Context, id string) error {
	return r.ask(ctx, func() error {
		m := r.log.members[id]
		if m == nil {
			return nil
		}
		delete(r.log.members, id)
		m.removed = true
		m.wakeLocked()
		if r.log.leader == m {
			r.log.leader = nil // the others elect another
		}
		return nil
	})
}
