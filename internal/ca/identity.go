package ca

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
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
	// nextKeyFile holds the key of a certificate that is being renewed, until the certificate is there.
	nextKeyFile = "swarm-node.key.next"
)

// Identity is a node's certificate with its private key, and the root that the node trusts. It lives in a folder. When it is renewed, TLS
// configurations made from it use the new certificate from the next handshake on.
type Identity struct {
	dir string

	mu     sync.RWMutex // guards all below
	root   *Root
	cert   *tls.Certificate
	keyPEM []byte
	lock   LockKey
	memory *os.File // the unlocked key, for etcd, which reads it by its path; the file is in memory only
}

// LoadIdentity reads the identity in dir. The error wraps os.ErrNotExist if there is none, ErrLocked if its key is locked and lock is nil, and
// ErrWrongKey if lock is not the key that it is locked with.
func LoadIdentity(dir string, lock LockKey) (*Identity, error) {
	rootPEM, err := os.ReadFile(filepath.Join(dir, RootFile))
	if err != nil {
		return nil, fmt.Errorf("read identity: %w", err)
	}
	certPEM, err := os.ReadFile(filepath.Join(dir, CertFile))
	if err != nil {
		return nil, fmt.Errorf("read identity: %w", err)
	}
	keyPEM, err := loadKey(dir, certPEM, lock)
	if err != nil {
		return nil, err
	}
	id := &Identity{dir: dir, lock: lock}
	return id, id.set(rootPEM, certPEM, keyPEM)
}

// loadKey is the key of the certificate. After a renewal that was cut off between certificate and key it is still in nextKeyFile, and is put in its
// place; what such a renewal left behind before the certificate is removed.
func loadKey(dir string, certPEM []byte, lock LockKey) ([]byte, error) {
	kept, err := os.ReadFile(filepath.Join(dir, nextKeyFile))
	if err == nil {
		keyPEM, err := lock.Open(kept)
		if err != nil {
			return nil, fmt.Errorf("read next node key: %w", err)
		}
		if _, err := tls.X509KeyPair(certPEM, keyPEM); err == nil {
			return keyPEM, atomicfile.Rename(filepath.Join(dir, nextKeyFile), filepath.Join(dir, KeyFile))
		}
		if err := atomicfile.RemoveAll(filepath.Join(dir, nextKeyFile)); err != nil {
			return nil, fmt.Errorf("remove key of an unfinished renewal: %w", err)
		}
	} else if !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("read identity: %w", err)
	}
	kept, err = os.ReadFile(filepath.Join(dir, KeyFile))
	if err != nil {
		return nil, fmt.Errorf("read identity: %w", err)
	}
	keyPEM, err := lock.Open(kept)
	if err != nil {
		return nil, fmt.Errorf("read node key: %w", err)
	}
	return keyPEM, nil
}

// SaveIdentity writes a new identity into dir, unlocked, and returns it.
func SaveIdentity(dir string, rootPEM, certPEM, keyPEM []byte) (*Identity, error) {
	id := &Identity{dir: dir}
	if err := id.Renew(rootPEM, certPEM, keyPEM); err != nil {
		return nil, err
	}
	return id, nil
}

// Renew replaces the certificate, its key and the trusted root: first in the folder, then for new TLS handshakes. If it is cut off anywhere, by a crash
// or a loss of power, LoadIdentity finds either the old pair of certificate and key or the new one.
func (id *Identity) Renew(rootPEM, certPEM, keyPEM []byte) error {
	if err := atomicfile.Mkdir(id.dir, 0o700); err != nil {
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
	}{{RootFile, rootPEM, 0o644}, {nextKeyFile, keptKey, 0o600}, {CertFile, certPEM, 0o644}} {
		if err := atomicfile.Write(filepath.Join(id.dir, file.name), file.data, file.mode); err != nil {
			return fmt.Errorf("keep identity: %w", err)
		}
	}
	if err := atomicfile.Rename(filepath.Join(id.dir, nextKeyFile), filepath.Join(id.dir, KeyFile)); err != nil {
		return fmt.Errorf("keep identity: %w", err)
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

// Trust replaces the root that the node trusts: first in the folder, then for new TLS handshakes.
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

// Info is the root that the node trusts and the issuer of its certificate. The issuer's key is nil if the node does not trust it.
func (id *Identity) Info() shoal.TLSInfo {
	id.mu.RLock()
	defer id.mu.RUnlock()
	chain := x509.NewCertPool()
	for _, der := range id.cert.Certificate[1:] {
		if cert, err := x509.ParseCertificate(der); err == nil {
			chain.AddCert(cert)
		}
	}
	return shoal.TLSInfo{
		TrustRoot: string(id.root.CertPEM), CertIssuerSubject: id.cert.Leaf.RawIssuer, CertIssuerPublicKey: id.root.issuerKey(id.cert.Leaf, chain),
	}
}

// Lock writes the node's key anew, encrypted with lock, and keeps later keys that way too. A nil lock leaves them unencrypted.
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

// OpenKeyFile is the path of a file, in memory only, that always holds the node's present key unencrypted. It exists as long as the
// identity does, and only within this process.
func (id *Identity) OpenKeyFile() string {
	id.mu.RLock()
	defer id.mu.RUnlock()
	return id.memory.Name()
}

// Dir is the folder that the identity is in.
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
	return shoal.ClusterID(firstOf(id.Certificate().Subject.Organization))
}

// Role is the role that the certificate grants the node.
func (id *Identity) Role() shoal.NodeRole { return RoleOf(id.Certificate()) }

// RenewAt is when the certificate is to be renewed: half-way between its making and its end, so that a node that was off for long still has a valid
// one. A certificate so short that a cluster does not make it is one of an external authority, which backdates little.
func (id *Identity) RenewAt() time.Time {
	const shortest = backdate + time.Hour
	cert := id.Certificate()
	made := cert.NotBefore.Add(backdate)
	if cert.NotAfter.Sub(cert.NotBefore) < shortest {
		made = cert.NotBefore
	}
	return made.Add(cert.NotAfter.Sub(made) / 2)
}

// Valid tells whether the certificate is valid at a time. One that is not lets the node in nowhere; it can still prove who it is: see Prove.
func (id *Identity) Valid(at time.Time) bool {
	cert := id.Certificate()
	return !at.Before(cert.NotBefore) && !at.After(cert.NotAfter)
}

// tlsCertificate is the node's present certificate with its key.
func (id *Identity) tlsCertificate() tls.Certificate {
	id.mu.RLock()
	defer id.mu.RUnlock()
	return *id.cert
}

// RoleOf is the role that a certificate grants: manager if its organizational unit says so, worker otherwise.
func RoleOf(cert *x509.Certificate) shoal.NodeRole {
	if firstOf(cert.Subject.OrganizationalUnit) == ManagerUnit {
		return shoal.RoleManager
	}
	return shoal.RoleWorker
}

// firstOf is the first of some values, empty if there are none.
func firstOf(values []string) string {
	if len(values) == 0 {
		return ""
	}
	return values[0]
}

// ServerTLS is the configuration of a manager that serves the node protocol. A client that wants to join has no certificate yet; if a client
// shows one, the cluster's root must have signed it.
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
				Certificates: []tls.Certificate{id.tlsCertificate()},
			}, nil
		},
	}
}

// ClientTLS is the configuration of a node that calls a manager. It accepts only servers with a manager's certificate.
func (id *Identity) ClientTLS() *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS13,
		ServerName: ManagerUnit,
		RootCAs:    id.Root().Pool(),
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			cert := id.tlsCertificate()
			return &cert, nil
		},
	}
}

// AnonymousTLS is the configuration of a node that calls a manager without showing its certificate, because that has expired.
func (id *Identity) AnonymousTLS() *tls.Config { return JoinTLS(id.Root()) }

// JoinTLS is the configuration of a node that asks to join and has no certificate yet. With a nil root it accepts any server: use that only to
// fetch the root certificate, whose digest must then be compared with that in the join token. With that root, the token may be sent.
func JoinTLS(root *Root) *tls.Config {
	if root == nil {
		return &tls.Config{
			MinVersion:         tls.VersionTLS13,
			InsecureSkipVerify: true, // #nosec G402 -- only the public root certificate is fetched, and checked by its digest
		}
	}
	return &tls.Config{MinVersion: tls.VersionTLS13, ServerName: ManagerUnit, RootCAs: root.Pool()}
}
