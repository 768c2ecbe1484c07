package store

import (
	"context"
	"fmt"
	"sync"
)

// Change is one object before and after; Old is nil for a new object, New for a deleted one.
type Change struct {
	Kind     Kind
	ID       string
	Old, New Object
}

// Batch is all changes of one revision, and the state after it.
type Batch struct {
	View    View
	Changes []Change
}

// Subscription receives every change that is made after Subscribe. It must be closed. Its queue has no limit, so it must be read.
type Subscription struct {
	store *Store
	wake  chan struct{} // capacity 1

	mu    sync.Mutex // guards queue
	queue []Batch
}

// Subscribe starts to collect changes; the view is the state before the first of them.
func (s *Store) Subscribe() (View, *Subscription) {
	sub := &Subscription{store: s, wake: make(chan struct{}, 1)}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.subs[sub] = struct{}{}
	return s.viewLocked(), sub
}

// Close stops the subscription.
func (sub *Subscription) Close() {
	sub.store.mu.Lock()
	defer sub.store.mu.Unlock()
	delete(sub.store.subs, sub)
}

// Wake receives a value when Take may have something to return.
func (sub *Subscription) Wake() <-chan struct{} { return sub.wake }

// Take returns the batches since the last call, oldest first, without waiting.
func (sub *Subscription) Take() []Batch {
	sub.mu.Lock()
	defer sub.mu.Unlock()
	batches := sub.queue
	sub.queue = nil
	return batches
}

// Next waits until there are batches and returns them, oldest first.
func (sub *Subscription) Next(ctx context.Context) ([]Batch, error) {
	for {
		if batches := sub.Take(); len(batches) > 0 {
			return batches, nil
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-sub.wake:
		}
	}
}

// push adds a batch to the queue and wakes the reader.
func (sub *Subscription) push(b Batch) {
	sub.mu.Lock()
	sub.queue = append(sub.queue, b)
	sub.mu.Unlock()
	select {
	case sub.wake <- struct{}{}:
	default:
	}
}

// apply applies the records of one revision to the snapshot and tells subscribers. A record that cannot be decoded is logged and its object stays as
// it was, because one bad value must not stop the cluster.
func (s *Store) apply(rev uint64, records []Record) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var changes []Change
	txn := s.db.Txn(true)
	before := View{db: s.db}
	for _, r := range records {
		if r.Key == EpochKey {
			s.leader = string(r.Value)
		}
		kind, id, ok := parseKey(r.Key)
		if _, err := newObject(kind); !ok || err != nil {
			continue
		}
		change := Change{Kind: kind, ID: id, Old: before.Get(kind, id)}
		if r.Value != nil {
			o, err := s.codec.decode(r)
			if err != nil {
				s.cfg.Log.Error("stored object cannot be read and is left out; is this manager older than the one that wrote it?", "err", err)
				continue
			}
			change.New = o
			mustInsert(txn, o)
		} else if change.Old != nil {
			mustDelete(txn, change.Old)
		}
		if change.Old != nil || change.New != nil {
			changes = append(changes, change)
		}
	}
	txn.Commit()
	s.rev = rev
	s.history.add(rev, changes)
	close(s.advanced)
	s.advanced = make(chan struct{})
	if len(changes) == 0 {
		return
	}
	batch := Batch{s.viewLocked(), changes}
	for sub := range s.subs {
		sub.push(batch)
	}
}

// load reads the whole state from the backend and applies what differs from the snapshot, as one batch for subscribers.
func (s *Store) load(ctx context.Context) error {
	records, rev, err := s.cfg.Backend.Load(ctx)
	if err != nil {
		return fmt.Errorf("load state: %w", err)
	}
	view := s.View()
	loaded := make(map[string]bool, len(records))
	changed := records[:0:0]
	for _, r := range records {
		loaded[r.Key] = true
		kind, id, _ := parseKey(r.Key)
		if r.Key == EpochKey {
			changed = append(changed, r)
		}
		if _, err := newObject(kind); err != nil {
			continue
		}
		if old := view.Get(kind, id); old == nil || old.Head().Version != r.Rev {
			changed = append(changed, r)
		}
	}
	for _, k := range []Kind{KindCluster, KindConfig, KindNetwork, KindNode, KindSecret, KindService, KindTask} {
		for _, o := range view.List(k) {
			if key := keyOf(k, o.ObjectID()); !loaded[key] {
				changed = append(changed, Record{Key: key, Rev: rev})
			}
		}
	}
	s.apply(rev, changed)
	return nil
}
