package etcd

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	bolt "go.etcd.io/bbolt"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/server/v3/storage/mvcc"
	"go.etcd.io/etcd/server/v3/storage/schema"
	"google.golang.org/protobuf/proto"

	"github.com/shoal-dev/shoal/internal/store"
)

// Copy is a sole member's data as its database has them: what a manager shows while the disk is too full to start the member. It reads the database once
// and writes nothing at all, so that it needs no room. It never leads. Run ends it as soon as the member can be started (docs/store.md).
type Copy struct {
	cfg     Config
	log     *slog.Logger
	reason  error
	records []store.Record
	rev     uint64
	self    MemberInfo
	done    chan struct{}
	end     func() // closes done, once

	mu  sync.Mutex // guards err
	err error
}

// OpenCopy reads the database of the member that could not be started for want of room, which is the reason. It is an error if the member is not the only
// one: the others know better.
func OpenCopy(cfg Config, reason error) (*Copy, error) {
	cfg = cfg.withDefaults()
	c := &Copy{cfg: cfg, log: cfg.Log, reason: reason, done: make(chan struct{})}
	c.end = sync.OnceFunc(func() { close(c.done) })
	const limit = time.Second // for whoever still has it open
	db, err := bolt.Open(filepath.Join(cfg.Dir, "member", "snap", "db"), 0o400, &bolt.Options{ReadOnly: true, Timeout: limit})
	if err != nil {
		return nil, fmt.Errorf("read the store's database: %w", err)
	}
	err = db.View(c.read)
	if err := errors.Join(err, db.Close()); err != nil {
		return nil, fmt.Errorf("read the store's database: %w", err)
	}
	c.log.Error("the disk is too full to start the store: this manager shows the cluster's state as it was last and changes nothing until there is room", "dir", cfg.Dir, "err", reason)
	return c, nil
}

func (c *Copy) read(tx *bolt.Tx) error {
	members := tx.Bucket(schema.Members.Name())
	keys := tx.Bucket(schema.Key.Name())
	if members == nil || keys == nil {
		return errors.New("it has no members or no keys")
	}
	if n := members.Inspect().KeyN; n != 1 {
		return fmt.Errorf("it is of one of %d members; use another manager", n)
	}
	id, encoded := members.Cursor().First()
	var member struct {
		Name     string   `json:"name"`
		PeerURLs []string `json:"peerURLs"`
	}
	if err := json.Unmarshal(encoded, &member); err != nil {
		return fmt.Errorf("decode its member: %w", err)
	}
	c.self = MemberInfo{ID: string(id), Name: member.Name, PeerURL: strings.Join(member.PeerURLs[:min(1, len(member.PeerURLs))], "")}
	return c.readKeys(keys)
}

// readKeys reads the history of all keys, in the order of its revisions, of which the last of each key counts.
func (c *Copy) readKeys(history *bolt.Bucket) error {
	newest := map[string]store.Record{}
	err := history.ForEach(func(at, encoded []byte) error {
		var kv mvccpb.KeyValue
		if err := proto.Unmarshal(encoded, &kv); err != nil {
			return fmt.Errorf("decode revision %x: %w", at, err)
		}
		key := string(kv.GetKey())
		if mvcc.IsTombstone(at) {
			delete(newest, key)
			return nil
		}
		c.rev = max(c.rev, rev(kv.GetModRevision()))
		if strings.HasPrefix(key, store.Prefix) {
			newest[key] = store.Record{Key: key, Value: kv.GetValue(), Rev: rev(kv.GetModRevision())}
		}
		return nil
	})
	for _, r := range newest {
		c.records = append(c.records, r)
	}
	slices.SortFunc(c.records, func(a, b store.Record) int { return cmp.Compare(a.Key, b.Key) })
	return err
}

// WantsRoom tells whether an error of Start is one that OpenCopy is for.
func WantsRoom(err error) bool {
	return errors.Is(err, errNoRoom) || errors.Is(err, syscall.ENOSPC)
}

// Load implements store.Backend.
func (c *Copy) Load(context.Context) ([]store.Record, uint64, error) {
	return slices.Clone(c.records), c.rev, nil
}

// Txn implements store.Backend: it refuses every change.
func (c *Copy) Txn(_ context.Context, _ uint64, ops []store.Op) (uint64, error) {
	return 0, cmp.Or(store.CheckTxn(ops), c.reason)
}

// Watch implements store.Backend: nothing changes.
func (c *Copy) Watch(ctx context.Context, _ uint64, _ func(uint64, []store.Record)) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-c.done:
		return errStopped
	}
}

// Run waits until there is room to start the member, which is its error then, or until ctx ends.
func (c *Copy) Run(ctx context.Context) error {
	ticker := time.NewTicker(diskInterval)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-c.done:
			return cmp.Or(c.Err(), errStopped)
		case <-ticker.C:
		}
		if free, err := freeSpace(c.cfg.Dir); err != nil || free < c.cfg.MinFree/stopPart+c.cfg.MinFree/stopPart/resumePart {
			continue
		}
		c.mu.Lock()
		c.err = store.ErrRestart
		c.mu.Unlock()
		c.end()
	}
}

// Close ends Run and Watch. Further calls do nothing.
func (c *Copy) Close() { c.end() }

// Done is closed when the copy is of no use any more. Err is why: store.ErrRestart, or nil after Close.
func (c *Copy) Done() <-chan struct{} { return c.done }

// Err is described at Done.
func (c *Copy) Err() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.err
}

// Problems says what the manager can not do at present.
func (c *Copy) Problems() []string {
	return []string{c.reason.Error() + "; until then this manager shows the cluster's state as it was last, and nodes get no word from it"}
}

// ID is the ID of the member, in hex.
func (c *Copy) ID() string { return c.self.ID }

// LeaderID is "0": there is no leader.
func (c *Copy) LeaderID() string { return "0" }

// Leader says that this member does not lead, which never changes.
func (c *Copy) Leader() (epoch uint64, leads bool, leadershipChanged <-chan struct{}) {
	return 0, false, nil
}

// Learner says that the member has a vote.
func (c *Copy) Learner() bool { return false }

// Resign and Stand do nothing: there is no other member.
func (c *Copy) Resign() error { return nil }

// Stand is described at Resign.
func (c *Copy) Stand(context.Context, string) error { return nil }

// Members lists the member.
func (c *Copy) Members(context.Context) ([]MemberInfo, error) { return []MemberInfo{c.self}, nil }

// Add, Promote and Remove would be changes, and are refused.
func (c *Copy) Add(context.Context, string, string) (map[string]string, error) { return nil, c.reason }

// Promote is described at Add.
func (c *Copy) Promote(context.Context, string) error { return c.reason }

// Remove is described at Add.
func (c *Copy) Remove(context.Context, string) error { return c.reason }
