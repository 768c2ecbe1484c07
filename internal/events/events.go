// Package events carries what happened on this node and in the cluster to those who follow `docker events`. It takes what other rooms
// publish and keeps the last 256 events for those who ask for the past; it writes nothing to disk.
package events

import (
	"context"
	"sync"
	"time"
)

// Event is one thing that happened, in the terms of Docker's /events.
type Event struct {
	Type       string            // container, image, network, volume, service, node, task, secret, config or daemon
	Action     string            // in Docker's words, such as "start"
	ID         string            // of what it happened to; a volume's is its name
	Attributes map[string]string // may be nil; must not be changed after Publish
	Scope      string            // local (of this node) or swarm (of the cluster)
	Time       time.Time
}

const (
	historySize = 256  // events that are kept for those who ask for the past
	maxQueue    = 1024 // events that a subscriber may be behind
)

// Bus hands every published event to every subscriber. The zero Bus is ready for use.
type Bus struct {
	mu          sync.Mutex // guards the fields below and the queues of the subscribers
	history     []Event    // the last historySize events, oldest first
	subscribers map[*subscriber]struct{}
}

// subscriber is one caller of Follow.
type subscriber struct {
	wake  chan struct{} // has an element when queue may not be empty; capacity 1
	queue []Event       // what it has not been given yet, oldest first; guarded by Bus.mu
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
	for s := range b.subscribers {
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

// Followers is how many callers of Follow there are now.
func (b *Bus) Followers() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.subscribers)
}

// Past returns the kept events since a time, until another.
func (b *Bus) Past(since, until time.Time) []Event {
	b.mu.Lock()
	defer b.mu.Unlock()
	var out []Event
	for _, e := range b.history {
		if !e.Time.Before(since) && !e.Time.After(until) {
			out = append(out, e)
		}
	}
	return out
}

// Follow calls each for every kept event since the given time (none if it is zero), then for every new one, until ctx is done
// or each returns an error. It returns that error, or the one of ctx. A slow each loses events, see Publish.
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
	if b.subscribers == nil {
		b.subscribers = map[*subscriber]struct{}{}
	}
	b.subscribers[s] = struct{}{}
	b.mu.Unlock()
	defer func() {
		b.mu.Lock()
		delete(b.subscribers, s)
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
