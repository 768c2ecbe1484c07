package membership

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/containerd/errdefs"
	"github.com/shoal-dev/shoal/internal/atomicfile"
	"github.com/shoal-dev/shoal/internal/ca"
	"github.com/shoal-dev/shoal/internal/fault"
	"github.com/shoal-dev/shoal/internal/rpc"
	"github.com/shoal-dev/shoal/internal/shoal"
	"github.com/shoal-dev/shoal/internal/store"
)

// Docker's words for a node that is locked, or is not.
var (
	errLocked        = errdefs.ErrUnavailable.WithMessage("Swarm is encrypted and needs to be unlocked before it can be used. Please use \"docker swarm unlock\" to unlock it.")
	errLockedLeaves  = errdefs.ErrUnavailable.WithMessage("Swarm is encrypted and locked. Please unlock it first or use `--force` to ignore this message.")
	errNotLocked     = errdefs.ErrConflict.WithMessage("swarm is not locked")
	errWrongUnlocker = errdefs.ErrInvalidArgument.WithMessage("swarm could not be unlocked: " + ca.ErrWrongKey.Error())
)

// SetAutolock gives a cluster an unlock key, another one, or none, as its spec says.
func SetAutolock(cluster *shoal.Cluster, rotate bool) {
	switch {
	case !cluster.Spec.AutoLock:
		cluster.UnlockKey = ""
	case cluster.UnlockKey == "" || rotate:
		cluster.UnlockKey = ca.NewLockKey().String()
	}
}

// Unlock opens what a locked manager keeps on its disk and resumes the node's place.
func (m *Membership) Unlock(ctx context.Context, text string) error {
	m.mu.Lock()
	locked, inSwarm, unlocks := m.locked, m.identity != nil, m.unlocks
	m.mu.Unlock()
	switch {
	case !locked && !inSwarm:
		return errNoSwarm
	case !locked:
		return errNotLocked
	}
	key, err := ca.ParseLockKey(text)
	if err != nil || key == nil {
		return errWrongUnlocker
	}
	if _, err := ca.LoadIdentity(m.certificates(), key); err != nil {
		if errors.Is(err, ca.ErrWrongKey) {
			return errWrongUnlocker
		}
		return err
	}
	m.mu.Lock()
	m.lock = key
	m.mu.Unlock()
	resumed := make(chan error, 1)
	select {
	case unlocks <- resumed:
	case <-ctx.Done():
		return ctx.Err()
	}
	select {
	case err := <-resumed:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// awaitUnlock takes up the node's place when somebody has brought the key.
func (m *Membership) awaitUnlock(ctx context.Context) {
	unlocks := make(chan chan error)
	m.mu.Lock()
	m.locked, m.unlocks = true, unlocks
	m.mu.Unlock()
	m.cfg.Log.Info("the swarm is locked")
	go func() {
		select {
		case <-ctx.Done():
		case resumed := <-unlocks:
			resumed <- fault.Contain(m.cfg.Log, "place in the cluster", func() error { return m.Start(ctx) })
		}
	}()
}

func (m *Membership) sealingKeyFile() string { return filepath.Join(m.cfg.Dir, StoreDir, "key") }

// sealingKey is what seals secrets in the store: what the admitting manager says, what the node has kept, or a new one.
func (m *Membership) sealingKey(join *rpc.MemberReply) ([]byte, error) {
	m.mu.Lock()
	lock := m.lock
	m.mu.Unlock()
	if join != nil {
		return join.Key, m.keepSealingKey(lock, join.Key)
	}
	kept, err := os.ReadFile(m.sealingKeyFile())
	if errors.Is(err, os.ErrNotExist) {
		key := store.NewKey()
		return key, m.keepSealingKey(lock, key)
	}
	if err != nil {
		return nil, fmt.Errorf("read sealing key: %w", err)
	}
	key, err := lock.Open(kept)
	if err != nil {
		return nil, fmt.Errorf("read sealing key: %w", err)
	}
	return key, nil
}

func (m *Membership) keepSealingKey(lock ca.LockKey, key []byte) error {
	kept, err := lock.Lock(key)
	if err != nil {
		return err
	}
	file := m.sealingKeyFile()
	if err := atomicfile.Mkdir(filepath.Dir(file), 0o700); err != nil {
		return fmt.Errorf("keep sealing key: %w", err)
	}
	if err := atomicfile.Write(file, kept, 0o600); err != nil {
		return fmt.Errorf("keep sealing key: %w", err)
	}
	return nil
}

// followLock keeps this manager's files locked as the cluster wants it, until the manager stops.
func (m *Membership) followLock(ctx context.Context, manager Manager, identity *ca.Identity, key []byte) {
	view, sub := manager.Store().Subscribe()
	defer sub.Close()
	for {
		if cluster := view.Cluster(); cluster != nil {
			if err := m.keepAuthority(manager, cluster, key); err != nil {
				m.cfg.Log.Error("this manager's means to renew its own certificate cannot be kept on disk; without them a cluster that is off until its certificates have expired may not come back by itself", "err", err)
			}
			if err := m.relock(manager, identity, cluster.UnlockKey, key); err != nil {
				m.cfg.Log.Error("this manager's keys cannot be encrypted as autolock asks; it is tried again at the cluster's next change", "err", err)
			}
		}
		if _, err := sub.Next(ctx); err != nil {
			return
		}
		view = manager.Store().View()
	}
}

func (m *Membership) relock(manager Manager, identity *ca.Identity, unlockKey string, key []byte) error {
	lock, err := ca.ParseLockKey(unlockKey)
	if err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.manager != manager || bytes.Equal(m.lock, lock) {
		return nil
	}
	if err := m.keepSealingKey(lock, key); err != nil {
		return err
	}
	if err := identity.Lock(lock); err != nil {
		return err
	}
	m.lock = lock
	return nil
}
