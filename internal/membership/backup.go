package membership

import (
	"cmp"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/containerd/errdefs"

	"github.com/shoal-dev/shoal/internal/atomicfile"
	"github.com/shoal-dev/shoal/internal/backup"
	"github.com/shoal-dev/shoal/internal/ca"
	"github.com/shoal-dev/shoal/internal/shoal"
	"github.com/shoal-dev/shoal/internal/store"
)

// saved begins the content of a backup; records follow, and then an end. All are JSON.
type saved struct {
	Version    int // of the content
	At         time.Time
	ClusterID  shoal.ClusterID
	NodeID     shoal.NodeID // of the manager that made it, whose place a restored one takes
	Hostname   string
	Revision   uint64
	SealingKey []byte // of the secrets in the records
	Records    int
}

const savedVersion = 1

// savedRecord is one record of the store.
type savedRecord struct {
	Key   string
	Value []byte
}

// Backup writes the cluster's state, as it was at one revision that no later write has part in, to a sealed file: see package backup.
func (m *Membership) Backup(ctx context.Context, to io.Writer, passphrase string) error {
	if passphrase == "" {
		return backup.ErrNoPassphrase
	}
	s, err := m.Store()
	if err != nil {
		return err
	}
	m.mu.Lock()
	identity := m.identity
	m.mu.Unlock()
	cluster := s.View().Cluster()
	if cluster == nil || identity == nil {
		return errdefs.ErrUnavailable.WithMessage("the cluster is not ready")
	}
	key, err := m.sealingKey(nil)
	if err != nil {
		return err
	}
	records, revision, err := s.Dump(ctx)
	if err != nil {
		return fmt.Errorf("read the cluster's state: %w", err)
	}
	records = slices.DeleteFunc(records, func(r store.Record) bool { return r.Key == store.EpochKey })
	return writeBackup(to, passphrase, saved{
		Version: savedVersion, At: time.Now().UTC(), ClusterID: cluster.ID, NodeID: identity.NodeID(), Hostname: m.cfg.Hostname,
		Revision: revision, SealingKey: key, Records: len(records),
	}, records)
}

func writeBackup(to io.Writer, passphrase string, head saved, records []store.Record) error {
	sealed, err := backup.Seal(to, passphrase)
	if err != nil {
		return err
	}
	compressed := gzip.NewWriter(sealed)
	enc := json.NewEncoder(compressed)
	if err := enc.Encode(head); err != nil {
		return fmt.Errorf("write backup: %w", err)
	}
	for _, r := range records {
		if err := enc.Encode(savedRecord{r.Key, r.Value}); err != nil {
			return fmt.Errorf("write backup: %w", err)
		}
	}
	if err := errors.Join(compressed.Close(), sealed.Close()); err != nil {
		return fmt.Errorf("write backup: %w", err)
	}
	return nil
}

// readBackup reads a backup to its end: nothing of it is used before it is known to be whole.
func readBackup(from io.Reader, passphrase string) (head saved, records []store.Record, err error) {
	sealed, err := backup.Open(from, passphrase)
	if err != nil {
		return head, nil, err
	}
	compressed, err := gzip.NewReader(sealed)
	if err != nil {
		return head, nil, backup.ErrDamaged
	}
	dec := json.NewDecoder(compressed)
	if err := dec.Decode(&head); err != nil {
		return head, nil, backup.ErrDamaged
	}
	if head.Version > savedVersion {
		return head, nil, errdefs.ErrInvalidArgument.WithMessage(fmt.Sprintf("the backup is of version %d, and this version of shoal reads none later than %d", head.Version, savedVersion))
	}
	for {
		var r savedRecord
		err := dec.Decode(&r)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil || r.Value == nil {
			return head, nil, backup.ErrDamaged
		}
		records = append(records, store.Record{Key: r.Key, Value: r.Value})
	}
	if _, err := io.Copy(io.Discard, sealed); err != nil || len(records) != head.Records {
		return head, nil, backup.ErrDamaged
	}
	return head, records, nil
}

// Restore makes this node the only manager of the cluster that a backup is of, in the place of the manager that made it. It may have other addresses. A node
// that is part of a cluster is refused, unless its manager cannot be started; what it has is set aside then.
func (m *Membership) Restore(ctx context.Context, from io.Reader, passphrase string, req InitRequest) (shoal.NodeID, error) {
	head, backedUp, err := readBackup(from, passphrase)
	if err != nil {
		return "", err
	}
	m.cancelResume()
	m.op.Lock()
	defer m.op.Unlock()
	if !m.restorable() {
		return "", errSwarmExists
	}
	req.AdvertiseAddr = cmp.Or(req.AdvertiseAddr, m.cfg.DefaultAdvertiseAddr)
	state, err := newState(req.ListenAddr, req.AdvertiseAddr, req.DataPathAddr)
	if err != nil {
		return "", err
	}
	state.Managers, state.Interface = []string{state.NodeAddr()}, interfaceOf(state.AdvertiseAddr)
	records, cluster, err := restored(ctx, head, backedUp, state)
	if err != nil {
		return "", err
	}
	if err := m.clearForRestore(); err != nil {
		return "", err
	}
	if err := m.startRestored(ctx, head, cluster, records, state); err != nil {
		m.stop()
		m.closeProbes()
		m.mu.Lock()
		m.identity, m.state, m.startErr = nil, State{}, nil
		m.mu.Unlock()
		return "", errors.Join(err, os.RemoveAll(m.cfg.Dir))
	}
	m.cfg.Log.Info("the cluster was restored from a backup", "made", head.At, "by", head.Hostname, "records", head.Records)
	return head.NodeID, nil
}

// restorable tells whether the node has nothing that works.
func (m *Membership) restorable() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	running := m.manager != nil && !isDone(m.manager)
	return m.failure != nil || m.identity == nil && !m.locked || !running && m.startErr != nil
}

// clearForRestore stops what belongs to an earlier place in a cluster and sets its folder aside. The containers of its tasks go on.
func (m *Membership) clearForRestore() error {
	m.stop()
	m.mu.Lock()
	m.identity, m.state, m.failure, m.lastWelcome, m.startErr = nil, State{}, nil, nil, nil
	m.lock, m.locked = nil, false
	m.mu.Unlock()
	entries, err := os.ReadDir(m.cfg.Dir)
	if errors.Is(err, os.ErrNotExist) || err == nil && len(entries) == 0 {
		return nil
	}
	return m.setAside(m.cfg.Dir, errors.New("the cluster is restored from a backup"))
}

// restored is the records of the restored cluster: those of the backup, with this node, at its present addresses, as the only manager.
func restored(ctx context.Context, head saved, from []store.Record, state State) ([]store.Record, *shoal.Cluster, error) {
	memory := store.NewMemory()
	if err := store.Import(ctx, memory, from); err != nil {
		return nil, nil, fmt.Errorf("read backup: %w", err)
	}
	s, err := store.Open(ctx, store.Config{Backend: memory, Key: head.SealingKey})
	if err != nil {
		return nil, nil, fmt.Errorf("read backup: %w", err)
	}
	view := s.View()
	if view.Cluster() == nil || view.Node(head.NodeID) == nil {
		return nil, nil, backup.ErrDamaged
	}
	changes, err := soleManager(view, head.NodeID, state, shoal.ClusterSpec{})
	if err != nil {
		return nil, nil, err
	}
	restarted := store.Changes{}
	for _, node := range view.With(changes).Nodes() {
		n := *node
		n.SpecOver = 0 // versions begin anew
		if n.ID == head.NodeID {
			n.DataAddr = state.DataPathAddr
		}
		restarted.Put(&n)
	}
	if _, err := s.CommitNoWait(ctx, restarted); err != nil {
		return nil, nil, fmt.Errorf("prepare the restored state: %w", err)
	}
	records, _, err := memory.Load(ctx)
	if err != nil {
		return nil, nil, err
	}
	return slices.DeleteFunc(records, func(r store.Record) bool { return r.Key == store.EpochKey }), view.Cluster(), nil
}

// startRestored starts the manager on the restored records. The state file, without which the node has no place, is written when they are all there.
func (m *Membership) startRestored(ctx context.Context, head saved, cluster *shoal.Cluster, records []store.Record, state State) error {
	key, csr, err := ca.NewRequest()
	if err != nil {
		return err
	}
	cert, err := sign(ctx, nil, cluster, csr, head.NodeID, shoal.RoleManager) // this machine has no certificate to show yet
	if err != nil {
		return err
	}
	identity, err := ca.SaveIdentity(m.certificates(), trusted(cluster), slices.Concat(cert, cluster.Intermediates), key)
	if err != nil {
		return err
	}
	if err := atomicfile.Mkdir(filepath.Dir(m.sealingKeyFile()), 0o700); err != nil {
		return err
	}
	if err := m.keepSealingKey(nil, head.SealingKey); err != nil {
		return err
	}
	m.mu.Lock()
	m.identity, m.state = identity, state
	m.mu.Unlock()
	if err := m.startManagerAs(ctx, ManagerConfig{Found: true, Import: records}); err != nil {
		return err
	}
	if err := m.saveState(state); err != nil {
		return err
	}
	if err := m.startAgent(); err != nil {
		return err
	}
	return m.awaitSession(ctx)
}

// setAside moves what cannot be used out of the way; nothing of a cluster is deleted because it cannot be read.
func (m *Membership) setAside(path string, cause error) error {
	if m.cfg.SetAside == nil {
		return os.RemoveAll(path)
	}
	return m.cfg.SetAside(path, cause)
}
