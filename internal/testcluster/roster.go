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
		s := r.log.seats[id]
		all = append(all, swarm.MemberInfo{ID: s.id, Name: s.name, PeerURL: s.peerURL, Learner: s.learner})
	}
	return all, nil
}

// Add implements swarm.Member.
func (r *replica) Add(ctx context.Context, name, peerURL string) (map[string]string, error) {
	initial := map[string]string{name: peerURL}
	return initial, r.ask(ctx, func() error {
		learners, known := 0, false
		for _, s := range r.log.seats {
			if s.name != "" {
				initial[s.name] = s.peerURL
			}
			known = known || s.peerURL == peerURL
			if s.learner {
				learners++
			}
		}
		if known {
			return nil
		}
		if learners == maxLearners {
			return errors.New("add a store member: too many learners")
		}
		_, err := r.log.newSeatLocked(peerURL, true)
		return err
	})
}

// Promote implements swarm.Member.
func (r *replica) Promote(ctx context.Context, id string) error {
	for {
		ready := false
		err := r.ask(ctx, func() error {
			s := r.log.seats[id]
			if s == nil {
				return errors.New("promote a store member: it is none")
			}
			if ready = r.log.connectedLocked(s) && s.name != ""; ready {
				s.learner = false
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
		s := r.log.seats[id]
		if s == nil {
			return nil
		}
		delete(r.log.seats, id)
		s.removed = true
		s.wakeLocked()
		if r.log.leader == s {
			r.log.leader = nil // the others elect another
		}
		return nil
	})
}
