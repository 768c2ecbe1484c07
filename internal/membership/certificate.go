package membership

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/shoal-dev/shoal/internal/atomicfile"
	"github.com/shoal-dev/shoal/internal/ca"
	"github.com/shoal-dev/shoal/internal/fault"
	"github.com/shoal-dev/shoal/internal/rpc"
	"github.com/shoal-dev/shoal/internal/shoal"
)

const (
	longestLook  = time.Minute // between two looks at the certificate: the machine's clock may be set at any time
	shortestLook = time.Second
)

// RenewCertificates replaces the node's certificate when half its life is over, until ctx ends: at the start, and by a timer.
func (m *Membership) RenewCertificates(ctx context.Context) error {
	failing := false
	for {
		pause := longestLook
		m.mu.Lock()
		identity := m.identity
		m.mu.Unlock()
		if identity != nil {
			if time.Now().After(identity.RenewAt()) {
				completed := fault.Do(m.cfg.Log, "renewal of the node's certificate", func() { failing = m.renewDue(ctx, identity, failing) })
				failing = failing || !completed
			}
			pause = min(max(time.Until(identity.RenewAt()), shortestLook), longestLook)
		}
		if failing {
			pause = m.renewAgain(identity)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(pause):
		}
	}
}

// renewAgain is the pause after a failed renewal: short once the node is cut off.
func (m *Membership) renewAgain(identity *ca.Identity) time.Duration {
	const whileValid, afterwards = 20 * time.Second, 2 * time.Second
	if identity.Valid(time.Now()) {
		return whileValid
	}
	return afterwards
}

// renewDue renews the certificate and tells whether that has failed. The first of a series of failures is logged as an error.
func (m *Membership) renewDue(ctx context.Context, identity *ca.Identity, failing bool) (failed bool) {
	m.op.Lock()
	defer m.op.Unlock()
	m.mu.Lock()
	current := m.identity == identity
	m.mu.Unlock()
	if !current || !time.Now().After(identity.RenewAt()) {
		return false
	}
	err := m.renew(ctx)
	if err == nil || ctx.Err() != nil {
		return false
	}
	log := m.cfg.Log.Error
	if failing {
		log = m.cfg.Log.Debug
	}
	log("the node's certificate cannot be renewed; it is tried again; a node whose certificate has expired has no session with the managers", "expires", identity.Certificate().NotAfter, "err", err)
	return true
}

// renew gets a new certificate from the first manager that answers. The session is opened again afterwards, because a connection
// keeps the rights of the certificate that it was opened with. A node whose certificate is not valid any more proves who it is instead of showing
// it; a manager then makes its certificate itself, because all other managers may be in the same position.
func (m *Membership) renew(ctx context.Context) error {
	m.mu.Lock()
	identity, agent := m.identity, m.agent
	m.mu.Unlock()
	if agent != nil {
		defer agent.Reopen()
	}
	if !identity.Valid(time.Now()) {
		return m.renewExpired(ctx, identity)
	}
	key, csr, err := ca.NewRequest()
	if err != nil {
		return err
	}
	return m.askManagers(ctx, func(ctx context.Context, c *rpc.Client) error {
		reply, err := c.Renew(ctx, &rpc.RenewRequest{CSR: csr})
		if err != nil {
			return err
		}
		return identity.Renew(reply.Root, reply.Cert, key)
	})
}

func (m *Membership) renewExpired(ctx context.Context, identity *ca.Identity) error {
	var self error
	if identity.Role() == shoal.RoleManager {
		if self = m.certifySelf(ctx, identity); self == nil {
			return nil
		}
	}
	key, csr, err := ca.NewRequest()
	if err != nil {
		return err
	}
	proof, err := identity.Prove(csr)
	if err != nil {
		return err
	}
	asked := m.askManagersAs(ctx, identity.AnonymousTLS, func(ctx context.Context, c *rpc.Client) error {
		reply, err := c.RenewExpired(ctx, &rpc.RenewExpiredRequest{CSR: csr, Proof: proof})
		if err != nil {
			return err
		}
		return identity.Renew(reply.Root, reply.Cert, key)
	})
	if asked == nil {
		return nil
	}
	return errors.Join(asked, self)
}

// authority is what a manager needs to make certificates while its copy of the cluster's state cannot be read: members of the store talk to one
// another only with valid certificates.
type authority struct {
	Version int // of this record
	Node    shoal.NodeID
	Cluster shoal.Cluster
}

const authorityVersion = 1

func (m *Membership) authorityFile() string { return filepath.Join(m.cfg.Dir, StoreDir, "authority") }

// keepAuthority writes the record, sealed with the store's sealing key, if it has changed.
func (m *Membership) keepAuthority(manager Manager, cluster *shoal.Cluster, key []byte) error {
	m.mu.Lock()
	identity, current := m.identity, m.manager == manager
	m.mu.Unlock()
	if !current || identity == nil {
		return nil
	}
	record := authority{Version: authorityVersion, Node: identity.NodeID(), Cluster: shoal.Cluster{
		ID: cluster.ID, RootCA: cluster.RootCA, RootKey: cluster.RootKey, Rotation: cluster.Rotation, Intermediates: cluster.Intermediates,
		Spec: shoal.ClusterSpec{CertExpiry: cluster.Spec.CertExpiry, ExternalCAs: cluster.Spec.ExternalCAs},
	}}
	text, err := json.Marshal(record)
	if err != nil {
		return err
	}
	if kept, err := os.ReadFile(m.authorityFile()); err == nil {
		if open, err := ca.LockKey(key).Open(kept); err == nil && bytes.Equal(open, text) {
			return nil
		}
	}
	sealed, err := ca.LockKey(key).Lock(text)
	if err != nil {
		return err
	}
	return atomicfile.Write(m.authorityFile(), sealed, 0o600)
}

// certifySelf makes this manager's next certificate. It has the cluster's root key, as every manager has, or asks an external authority, if that accepts the
// expired certificate. If it has been demoted or removed meanwhile,
// the other managers do not let it into the store, and it learns so.
func (m *Membership) certifySelf(ctx context.Context, identity *ca.Identity) error {
	kept, err := os.ReadFile(m.authorityFile())
	if err != nil {
		return fmt.Errorf("read the means to make certificates: %w", err)
	}
	sealing, err := m.sealingKey(nil)
	if err != nil {
		return err
	}
	text, err := ca.LockKey(sealing).Open(kept)
	if err != nil {
		return fmt.Errorf("read the means to make certificates: %w", err)
	}
	var record authority
	if err := json.Unmarshal(text, &record); err != nil {
		return fmt.Errorf("read the means to make certificates: %w", err)
	}
	if record.Node != identity.NodeID() || record.Version > authorityVersion {
		return fmt.Errorf("the means to make certificates are of node %s, version %d", record.Node, record.Version)
	}
	key, csr, err := ca.NewRequest()
	if err != nil {
		return err
	}
	cert, err := sign(ctx, identity, &record.Cluster, csr, record.Node, shoal.RoleManager)
	if err != nil {
		return err
	}
	m.cfg.Log.Warn("the certificate of this manager had expired; it has made itself another one", "expired", identity.Certificate().NotAfter)
	return identity.Renew(trusted(&record.Cluster), slices.Concat(cert, record.Cluster.Intermediates), key)
}
