package store

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/containerd/errdefs"
	"github.com/hashicorp/go-memdb"
)

// Config is what a Store needs. Backend is required.
type Config struct {
	Backend Backend
	// Key has KeySize bytes and seals secrets. If it is empty, secrets are stored unencrypted, which only tests may do.
	Key []byte
	Log *slog.Logger // nil discards
	// Now is the clock; time.Now if nil.
	Now func() time.Time
}

// Store is the cluster's state, as one manager has it. It follows the backend while Run runs.
type Store struct {
	cfg     Config
	codec   *codec
	history *history

	mu       sync.Mutex // guards db, rev, leader, advanced, subs
	db       *memdb.MemDB
	rev      uint64
	leader   string
	advanced chan struct{} // closed when rev grows
	subs     map[*Subscription]struct{}
}

// Open makes a Store and loads the state from the backend. Call Run to follow later changes.
func Open(ctx context.Context, cfg Config) (*Store, error) {
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	codec, err := newCodec(cfg.Key)
	if err != nil {
		return nil, err
	}
	db, err := newDB()
	if err != nil {
		return nil, fmt.Errorf("make snapshot: %w", err)
	}
	s := &Store{cfg: cfg, codec: codec, db: db, advanced: make(chan struct{}), subs: map[*Subscription]struct{}{}, history: &history{}}
	return s, s.load(ctx)
}

// Run follows the backend until ctx ends. When the watch fails, it starts another.
func (s *Store) Run(ctx context.Context) error {
	pause := 10 * time.Millisecond
	for {
		err := s.cfg.Backend.Watch(ctx, s.revision(), func(rev uint64, records []Record) {
			pause = 10 * time.Millisecond
			s.apply(rev, records)
		})
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if errors.Is(err, ErrCompacted) {
			err = s.load(ctx)
		}
		if err != nil {
			s.cfg.Log.Warn("changes of the cluster's state do not arrive; it is tried again, and this manager shows what it knew last", "err", err)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(pause):
		}
		pause = min(2*pause, time.Second)
	}
}

// View is the newest state that this manager knows of.
func (s *Store) View() View {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.viewLocked()
}

func (s *Store) viewLocked() View {
	return View{db: s.db.Snapshot(), rev: s.rev, now: s.cfg.Now(), leader: s.leader, history: s.history}
}

func (s *Store) revision() uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.rev
}

// Dump reads all records from the backend, as of one revision.
func (s *Store) Dump(ctx context.Context) ([]Record, uint64, error) { return s.cfg.Backend.Load(ctx) }

// Wait blocks until views show a revision. The error is that of ctx.
func (s *Store) Wait(ctx context.Context, rev uint64) error {
	for {
		s.mu.Lock()
		reached, advanced := s.rev >= rev, s.advanced
		s.mu.Unlock()
		if reached {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("wait for revision %d: %w", rev, ctx.Err())
		case <-advanced:
		}
	}
}

// Commit writes the changes in one transaction, waits until views show them and returns their revision. The error is a *ConflictError if an object
// has changed since it was read or a name is taken, ErrFenced if c.Fence is no longer the current epoch, ErrNoLeader without a
// majority of managers, and ErrTooLarge if the changes are more than one transaction can hold.
func (s *Store) Commit(ctx context.Context, c Changes) (uint64, error) {
	rev, err := s.CommitNoWait(ctx, c)
	if err != nil {
		return 0, err
	}
	return rev, s.Wait(ctx, rev)
}

// CommitNoWait is Commit, but returns before views show the changes.
func (s *Store) CommitNoWait(ctx context.Context, c Changes) (uint64, error) {
	if c.Empty() {
		return s.revision(), nil
	}
	ops, err := s.ops(c)
	if err != nil {
		return 0, err
	}
	rev, err := s.cfg.Backend.Txn(ctx, c.Fence, ops)
	if conflict, ok := errors.AsType[*KeyConflict](err); ok {
		return 0, conflictOf(conflict.Key)
	}
	if errors.Is(err, ErrNoLeader) || errors.Is(err, ErrTooLarge) || errdefs.IsUnavailable(err) {
		return 0, err // it is in the user's words
	}
	if err != nil {
		return 0, fmt.Errorf("commit changes: %w", err)
	}
	return rev, nil
}

// conflictOf is the error for an object, or the name of one, whose key has changed.
func conflictOf(key string) error {
	kind, rest, ok := parseKey(key)
	if ok {
		return &ConflictError{Kind: kind, ID: rest}
	}
	kind, name, _ := parseKey(Prefix + rest)
	return &ConflictError{Kind: kind, Name: name}
}

// ops is the backend's operations for changes. Beside each object they write its name as a key of its own, so that two managers cannot create two
// objects of one name.
func (s *Store) ops(c Changes) ([]Op, error) {
	view, size := s.View(), 0
	ops := make([]Op, 0, len(c.Puts)+len(c.Deletes))
	for _, o := range c.Puts {
		kind := KindOf(o)
		o = clone(o)
		meta := o.Head()
		if kind == "" || o.ObjectID() == "" {
			return nil, fmt.Errorf("put %T without a kind or ID", o)
		}
		meta.UpdatedAt = s.cfg.Now().UTC()
		if meta.CreatedAt.IsZero() {
			meta.CreatedAt = meta.UpdatedAt
		}
		name, oldName := nameOf(o), ""
		if old := view.Get(kind, o.ObjectID()); old != nil && meta.Version != 0 {
			oldName = nameOf(old)
		}
		version := meta.Version
		value, err := s.codec.encode(o)
		if err != nil {
			return nil, fmt.Errorf("encode %s %s: %w", kind, o.ObjectID(), err)
		}
		ops = append(ops, Op{Key: keyOf(kind, o.ObjectID()), Value: value, If: version})
		if size += ops[len(ops)-1].size(); size > MaxTxnBytes {
			return nil, ErrTooLarge // before more memory is spent on it
		}
		if name != oldName {
			ops = append(ops, nameOps(kind, o.ObjectID(), name, oldName)...)
		}
	}
	for _, o := range c.Deletes {
		meta := o.Head()
		ops = append(ops, Op{Key: keyOf(KindOf(o), o.ObjectID()), If: meta.Version})
		if name := nameOf(o); name != "" {
			ops = append(ops, Op{Key: nameKeyOf(KindOf(o), name), If: AnyRevision})
		}
	}
	return ops, nil
}

// nameOps is the operations that replace the name of an object; either name may be empty.
func nameOps(kind Kind, id string, name, oldName string) []Op {
	var ops []Op
	if oldName != "" {
		ops = append(ops, Op{Key: nameKeyOf(kind, oldName), If: AnyRevision})
	}
	if name != "" {
		ops = append(ops, Op{Key: nameKeyOf(kind, name), Value: []byte(id)})
	}
	return ops
}
