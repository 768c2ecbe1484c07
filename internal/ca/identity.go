package ca

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/shoal-dev/shoal/internal/atomicfile"
	"github.com/shoal-dev/shoal/internal/shoal"
)

// Names of the files in an identity folder, as in Docker's swarm/certificates.
const (
	RootFile = "swarm-root-ca.crt"
	CertFile = "swarm-node.crt"
	KeyFile  = "swarm-node.key"
)

// Identity is a node's certificate, its key and the root it trusts. It is stored in a folder and can be renewed while in use: TLS
// configurations made from it use the newest certificate in each handshake.
type Identity struct {
	dir string

	mu     sync.RWMutex // guards all below
	root   *Root
	cert   *tls.Certificate
	keyPEM []byte
	lock   LockKey
	memory *os.File // the key unencrypted, for code that wants a file name (etcd); never on a disk
}

// LoadIdentity reads the identity kept in dir. The error is os.ErrNotExist when there is none, and ErrLocked or ErrWrongKey
// when its key is locked and lock does not open it.
func LoadIdentity(dir string, lock LockKey) (*Identity, error) {
	rootPEM, err := os.ReadFile(filepath.Join(dir, RootFile))
	if err != nil {
		return nil, fmt.Errorf("read identity: %w", err)
	}
	certPEM, err := os.ReadFile(filepath.Join(dir, CertFile))
	if err != nil {
		return nil, fmt.Errorf("read identity: %w", err)
	}
	keyPEM, err := os.ReadFile(filepath.Join(dir, KeyFile))
	if err != nil {
		return nil, fmt.Errorf("read identity: %w", err)
	}
	if keyPEM, err = lock.Open(keyPEM); err != nil {
		return nil, fmt.Errorf("read node key: %w", err)
	}
	id := &Identity{dir: dir, lock: lock}
	return id, id.set(rootPEM, certPEM, keyPEM)
}

// SaveIdentity stores a new identity in dir, unlocked.
func SaveIdentity(dir string, rootPEM, certPEM, keyPEM []byte) (*Identity, error) {
	id := &Identity{dir: dir}
	if err := id.Renew(rootPEM, certPEM, keyPEM); err != nil {
		return nil, err
	}
	return id, nil
}

// Renew replaces certificate, key and root, first on disk, then in use.
func (id *Identity) Renew(rootPEM, certPEM, keyPEM []byte) error {
	if err := os.MkdirAll(id.dir, 0o700); err != nil {
		return fmt.Errorf("keep identity: %w", err)
	}
	id.mu.RLock()
	lock := id.lock
	id.mu.RUnlock()
	keptKey, err := lock.Lock(keyPEM)
	if err != nil {
		return fmt.Errorf("keep identity: %w", err)
	}
	for _, file := range []struct {
		name string
		data []byte
		mode os.FileMode
	}{{RootFile, rootPEM, 0o644}, {KeyFile, keptKey, 0o600}, {CertFile, certPEM, 0o644}} {
		if err := atomicfile.Write(filepath.Join(id.dir, file.name), file.data, file.mode); err != nil {
			return fmt.Errorf("keep identity: %w", err)
		}
	}
	return id.set(rootPEM, certPEM, keyPEM)
}

func (id *Identity) set(rootPEM, certPEM, keyPEM []byte) error {
	root, err := ParseRoot(rootPEM, nil)
	if err != nil {
		return err
	}
	cert, err := tls.X509KeyPair(certPEM, keyPEM)
	if err != nil {
		return fmt.Errorf("match node certificate and key: %w", err)
	}
	id.mu.Lock()
	defer id.mu.Unlock()
	id.root, id.cert, id.keyPEM = root, &cert, keyPEM
	if id.memory == nil {
		id.memory, err = memoryFile(keyPEM)
		return err
	}
	if _, err := id.memory.WriteAt(keyPEM, 0); err != nil {
		return fmt.Errorf("keep node key in memory: %w", err)
	}
	return id.memory.Truncate(int64(len(keyPEM)))
}

// Trust replaces the root that the node trusts, first on disk, then in use.
func (id *Identity) Trust(rootPEM []byte) error {
	root, err := ParseRoot(rootPEM, nil)
	if err != nil {
		return err
	}
	id.mu.Lock()
	defer id.mu.Unlock()
	if err := atomicfile.Write(filepath.Join(id.dir, RootFile), rootPEM, 0o644); err != nil {
		return fmt.Errorf("keep identity: %w", err)
	}
	id.root = root
	return nil
}

// Info is the root that the node trusts and the issuer of its certificate.
func (id *Identity) Info() shoal.TLSInfo {
	id.mu.RLock()
	defer id.mu.RUnlock()
	return shoal.TLSInfo{
		TrustRoot: string(id.root.CertPEM), CertIssuerSubject: id.cert.Leaf.RawIssuer, CertIssuerPublicKey: id.root.issuerKey(id.cert.Leaf),
	}
}

// Lock stores the node's key encrypted with another lock key from now on; nil stores it unencrypted.
func (id *Identity) Lock(lock LockKey) error {
	id.mu.Lock()
	defer id.mu.Unlock()
	kept, err := lock.Lock(id.keyPEM)
	if err != nil {
		return err
	}
	if err := atomicfile.Write(filepath.Join(id.dir, KeyFile), kept, 0o600); err != nil {
		return fmt.Errorf("keep identity: %w", err)
	}
	id.lock = lock
	return nil
}

// OpenKeyFile is the name of a file in memory that holds the node's present key unencrypted, for as long as the identity lives.
func (id *Identity) OpenKeyFile() string {
	id.mu.RLock()
	defer id.mu.RUnlock()
	return id.memory.Name()
}

// Dir is the folder that the identity is stored in.
func (id *Identity) Dir() string { return id.dir }

// Root is the root that the node trusts.
func (id *Identity) Root() *Root {
	id.mu.RLock()
	defer id.mu.RUnlock()
	return id.root
}

// Certificate is the node's present certificate.
func (id *Identity) Certificate() *x509.Certificate {
	id.mu.RLock()
	defer id.mu.RUnlock()
	return id.cert.Leaf
}

// NodeID is the node that the certificate names.
func (id *Identity) NodeID() shoal.NodeID {
	return shoal.NodeID(id.Certificate().Subject.CommonName)
}

// ClusterID is the cluster that the certificate was issued for.
func (id *Identity) ClusterID() shoal.ClusterID {
	return shoal.ClusterID(orEmpty(id.Certificate().Subject.Organization))
}

// Role is the role that the certificate grants the node.
func (id *Identity) Role() shoal.NodeRole { return RoleOf(id.Certificate()) }

// RenewAt is when the certificate is to be renewed.
func (id *Identity) RenewAt() time.Time       { return renewAt(id.Certificate()) }
func (id *Identity) current() tls.Certificate { id.mu.RLock(); defer id.mu.RUnlock(); return *id.cert }

// renewAt is half-way through a certificate's life, so that a node that was off for long still has time.
func renewAt(cert *x509.Certificate) time.Time {
	return cert.NotBefore.Add(cert.NotAfter.Sub(cert.NotBefore) / 2)
}

// RoleOf is the role that a certificate grants.
func RoleOf(cert *x509.Certificate) shoal.NodeRole {
	if orEmpty(cert.Subject.OrganizationalUnit) == ManagerUnit {
		return shoal.RoleManager
	}
	return shoal.RoleWorker
}

func orEmpty(values []string) string {
	if len(values) == 0 {
		return ""
	}
	return values[0]
}

// ServerTLS is the TLS configuration of a manager's node protocol. A client may have no certificate (to join); one that it has must
// be of this cluster.
func (id *Identity) ServerTLS() *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS13,
		ClientAuth: tls.VerifyClientCertIfGiven,
		GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) {
			return &tls.Config{
				MinVersion:   tls.VersionTLS13,
				NextProtos:   []string{"h2"},
				ClientAuth:   tls.VerifyClientCertIfGiven,
				ClientCAs:    id.Root().Pool(),
				Certificates: []tls.Certificate{id.current()},
			}, nil
		},
	}
}

// ClientTLS is the TLS configuration for connections to managers.
func (id *Identity) ClientTLS() *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS13,
		ServerName: ManagerUnit,
		RootCAs:    id.Root().Pool(),
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			cert := id.current()
			return &cert, nil
		},
	}
}

// JoinTLS is the TLS configuration of a node that joins. With a nil root nothing is verified: it is for fetching the root certificate,
// which the caller must compare with the digest in the join token before it sends anything secret. With a root, the server must be a
// manager of that root.
func JoinTLS(root *Root) *tls.Config {
	if root == nil {
		return &tls.Config{
			MinVersion:         tls.VersionTLS13,
			InsecureSkipVerify: true, // #nosec G402 -- only the public root certificate is fetched, and checked by its digest
		}
	}
	return &tls.Config{MinVersion: tls.VersionTLS13, ServerName: ManagerUnit, RootCAs: root.Pool()}
}
