package etcd

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/shoal-dev/shoal/internal/store"
)

// Load implements store.Backend. A member that is not promoted yet answers from its own copy.
func (m *Member) Load(ctx context.Context) ([]store.Record, uint64, error) {
	options := []clientv3.OpOption{clientv3.WithPrefix()}
	if m.server.Server.IsLearner() {
		options = append(options, clientv3.WithSerializable())
	}
	ctx, cancel := m.whileRunning(ctx)
	defer cancel()
	got, err := m.client.Get(ctx, store.Prefix, options...)
	if err != nil {
		return nil, 0, fmt.Errorf("read all keys: %w", err)
	}
	records := make([]store.Record, 0, len(got.Kvs))
	for _, kv := range got.Kvs {
		records = append(records, store.Record{Key: string(kv.Key), Value: kv.Value, Rev: rev(kv.ModRevision)})
	}
	return records, rev(got.Header.Revision), nil
}

// Txn implements store.Backend.
func (m *Member) Txn(ctx context.Context, fence uint64, ops []store.Op) (uint64, error) {
	if err := store.CheckTxn(ops); err != nil {
		return 0, err
	}
	var (
		compares []clientv3.Cmp
		writes   []clientv3.Op
		reads    []clientv3.Op
		expected []uint64
	)
	if fence != 0 {
		compares = append(compares, clientv3.Compare(clientv3.ModRevision(store.EpochKey), "=", etcdRev(fence)))
		reads = append(reads, clientv3.OpGet(store.EpochKey, clientv3.WithKeysOnly()))
		expected = append(expected, fence)
	}
	for _, op := range ops {
		if op.If != store.AnyRevision {
			compares = append(compares, clientv3.Compare(clientv3.ModRevision(op.Key), "=", etcdRev(op.If)))
			reads = append(reads, clientv3.OpGet(op.Key, clientv3.WithKeysOnly()))
			expected = append(expected, op.If)
		}
		if op.Value == nil {
			writes = append(writes, clientv3.OpDelete(op.Key))
		} else {
			writes = append(writes, clientv3.OpPut(op.Key, string(op.Value)))
		}
	}
	if err := m.noRoom(); err != nil {
		return 0, err
	}
	running, stop := m.whileRunning(ctx)
	defer stop()
	bounded, cancel := context.WithTimeout(running, txnTimeout)
	defer cancel()
	done, retried, err := m.commit(bounded, func(ctx context.Context) (*clientv3.TxnResponse, error) {
		return m.client.Txn(ctx).If(compares...).Then(writes...).Else(reads...).Commit()
	})
	if errors.Is(context.Cause(running), errStopped) && err != nil {
		return 0, errStopped
	}
	if leaderless(err) && ctx.Err() == nil {
		return 0, store.ErrNoLeader
	}
	if err != nil {
		return 0, err
	}
	if done.Succeeded {
		return rev(done.Header.Revision), nil
	}
	if retried {
		if at, ok := m.written(bounded, ops); ok {
			return at, nil
		}
	}
	for i, r := range done.Responses {
		var found uint64
		if kvs := r.GetResponseRange().Kvs; len(kvs) > 0 {
			found = rev(kvs[0].ModRevision)
		}
		if found == expected[i] {
			continue
		}
		if key := string(reads[i].KeyBytes()); key != store.EpochKey {
			return 0, &store.KeyConflict{Key: key}
		}
		return 0, store.ErrFenced
	}
	return 0, errors.New("transaction was refused although nothing differs")
}

// leaderChangeGrace is how long a proposal may still be answered after a new leader has been elected.
const leaderChangeGrace = 25 * time.Millisecond

// commit proposes a transaction, and again when the leader changes meanwhile, because a leader that has died answers no proposal. retried means that an
// earlier proposal may have been carried out all the same.
func (m *Member) commit(ctx context.Context, propose func(context.Context) (*clientv3.TxnResponse, error)) (done *clientv3.TxnResponse, retried bool, err error) {
	for ; ; retried = true {
		attempt, cancel := context.WithCancelCause(ctx)
		changed := m.server.Server.LeaderChangedNotify()
		finished := make(chan struct{})
		go func() {
			select {
			case <-finished:
				return
			case <-changed:
			}
			select {
			case <-finished:
			case <-time.After(leaderChangeGrace):
				cancel(errLeaderChanged)
			}
		}()
		done, err = propose(attempt)
		close(finished)
		lost := errors.Is(context.Cause(attempt), errLeaderChanged) || errors.Is(err, rpctypes.ErrTimeoutDueToLeaderFail) ||
			errors.Is(err, rpctypes.ErrTimeoutDueToConnectionLost)
		cancel(nil)
		if err == nil || !lost || ctx.Err() != nil {
			return done, retried, err
		}
	}
}

var errLeaderChanged = errors.New("the leader has changed")

// written tells whether the operations have been carried out, and at which revision: whether each key got its value next after the revision that
// its operation replaces, whatever was written over it since.
func (m *Member) written(ctx context.Context, ops []store.Op) (at uint64, ok bool) {
	for _, op := range ops {
		if op.Value == nil {
			continue
		}
		kv, err := m.firstAfter(ctx, op)
		if err != nil || kv == nil || !bytes.Equal(kv.Value, op.Value) {
			return 0, false
		}
		at = rev(kv.ModRevision)
	}
	return at, at != 0
}

// firstAfter is what replaced the revision of a key that an operation was to replace; the newest if it was to replace any. Nil: nothing did.
func (m *Member) firstAfter(ctx context.Context, op store.Op) (found *mvccpb.KeyValue, err error) {
	var options []clientv3.OpOption
	for {
		got, err := m.client.Get(ctx, op.Key, options...)
		if err != nil || len(got.Kvs) == 0 || op.If != store.AnyRevision && rev(got.Kvs[0].ModRevision) <= op.If {
			return found, err
		}
		found = got.Kvs[0]
		if op.If == store.AnyRevision {
			return found, nil
		}
		options = []clientv3.OpOption{clientv3.WithRev(found.ModRevision - 1)}
	}
}

// rev and etcdRev convert revisions, which are signed numbers in etcd, though never negative.
func rev(r int64) uint64     { return uint64(r) } // #nosec G115
func etcdRev(r uint64) int64 { return int64(r) }  // #nosec G115

// txnTimeout is how long a write waits for a majority of the managers.
const txnTimeout = 10 * time.Second

func leaderless(err error) bool {
	return errors.Is(err, context.DeadlineExceeded) || errors.Is(err, rpctypes.ErrTimeout) || errors.Is(err, rpctypes.ErrNoLeader) ||
		errors.Is(err, rpctypes.ErrTimeoutDueToLeaderFail) || errors.Is(err, rpctypes.ErrTimeoutDueToConnectionLost)
}

// Watch implements store.Backend.
func (m *Member) Watch(ctx context.Context, after uint64, each func(uint64, []store.Record)) error {
	ctx, cancel := m.whileRunning(ctx)
	defer cancel()
	for got := range m.client.Watch(ctx, store.Prefix, clientv3.WithPrefix(), clientv3.WithRev(etcdRev(after)+1)) {
		if err := got.Err(); err != nil {
			if errors.Is(err, rpctypes.ErrCompacted) {
				return store.ErrCompacted
			}
			return fmt.Errorf("watch keys: %w", err)
		}
		var (
			last    uint64
			records []store.Record
		)
		for _, e := range got.Events { // a response never ends in the middle of a revision
			r := store.Record{Key: string(e.Kv.Key), Value: e.Kv.Value, Rev: rev(e.Kv.ModRevision)}
			if e.Type == clientv3.EventTypeDelete {
				r.Value = nil
			}
			if r.Rev != last && len(records) > 0 {
				each(last, records)
				records = nil
			}
			last, records = r.Rev, append(records, r)
		}
		if len(records) > 0 {
			each(last, records)
		}
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return errors.New("watch has ended")
}
