// Package events carries what happened on this node and in the cluster to whoever follows `docker events`. It reads what
// other rooms publish and keeps the last 256 events for those who ask for the past; it writes nothing.
package events

import (
	"context"
	"sync"
	"time"
)

// Event is one thing that happened, in the terms of Docker's /events.
type Event struct {
	Type       string // container, image, network, volume, service, node, task, secret, config, daemon
	Action     string
	ID         string
	Attributes map[string]string
	Scope      string // local, swarm
	Time       time.Time
}

const (
	historySize = 256
	maxQueue    = 1024
)

// Bus hands every published event to every subscriber. The zero Bus is ready for use.
type Bus struct {
	mu      sync.Mutex // guards history, subs and the queues of subs
	history []Event
	subs    map[*subscriber]struct{}
}

type subscriber struct {
	wake  chan struct{} // capacity 1
	queue []Event       // guarded by Bus.mu
}

// Publish records e and wakes the subscribers. A zero Time becomes now, an empty Scope local. It never blocks: a subscriber that is
// more than 1,024 events behind loses the oldest.
func (b *Bus) Publish(e Event) {
	if e.Time.IsZero() {
		e.Time = time.Now()
	}
	if e.Scope == "" {
		e.Scope = "local"
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.history = append(b.history, e)
	if len(b.history) > historySize {
		b.history = b.history[len(b.history)-historySize:]
	}
	for s := range b.subs {
		s.queue = append(s.queue, e)
		if len(s.queue) > maxQueue {
			s.queue = s.queue[len(s.queue)-maxQueue:]
		}
		select {
		case s.wake <- struct{}{}:
		default:
		}
	}
}

// Follow calls each for every kept event since the given time (none if it is zero), then for every new one, until ctx ends
// or each returns an error. It returns that error or the one of ctx.
func (b *Bus) Follow(ctx context.Context, since time.Time, each func(Event) error) error {
	s := &subscriber{wake: make(chan struct{}, 1)}
	b.mu.Lock()
	if !since.IsZero() {
		for _, e := range b.history {
			if !e.Time.Before(since) {
				s.queue = append(s.queue, e)
			}
		}
		s.wake <- struct{}{}
	}
	if b.subs == nil {
		b.subs = map[*subscriber]struct{}{}
	}
	b.subs[s] = struct{}{}
	b.mu.Unlock()
	defer func() {
		b.mu.Lock()
		delete(b.subs, s)
		b.mu.Unlock()
	}()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-s.wake:
		}
		b.mu.Lock()
		batch := s.queue
		s.queue = nil
		b.mu.Unlock()
		for _, e := range batch {
			if err := each(e); err != nil {
				return err
			}
		}
	}
}
