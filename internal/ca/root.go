// Package ca makes and checks the cluster's credentials: the root certificate, node certificates, join tokens, the unlock key and the TLS
// configurations made of them. It reads and writes the folder of its node's identity and nothing else.
package ca

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"time"

	"github.com/shoal-dev/shoal/internal/shoal"
)

// The organizational unit of a node certificate is the role that the node may act in. The certificate has it as a DNS name too, so that a client
// can demand a manager as it would demand a host: by the server name of its TLS configuration.
const (
	ManagerUnit = "swarm-manager"
	WorkerUnit  = "swarm-worker"
)

const (
	rootExpiry = 20 * 365 * 24 * time.Hour
	// backdate is how long before its creation a certificate becomes valid, for nodes whose clocks are behind.
	backdate = 24 * time.Hour
)

// Root is the cluster's certificate authority. It is immutable.
type Root struct {
	// CertPEM is the root certificate. During a rotation, others that are trusted as well follow it.
	CertPEM []byte
	KeyPEM  []byte // nil on nodes that only check certificates
	cert    *x509.Certificate
	all     []*x509.Certificate // cert and those that follow it
	key     crypto.Signer
}

// NewRoot makes a self-signed root with a new key, valid for 20 years.
func NewRoot() (*Root, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("make root key: %w", err)
	}
	serial, err := newSerial()
	if err != nil {
		return nil, err
	}
	template := &x509.Certificate{
		SerialNumber:          serial,
		Subject:               pkix.Name{CommonName: "swarm-ca"},
		NotBefore:             time.Now().Add(-backdate),
		NotAfter:              time.Now().Add(rootExpiry),
		KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
		BasicConstraintsValid: true,
		IsCA:                  true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, fmt.Errorf("sign root certificate: %w", err)
	}
	keyPEM, err := encodeKey(key)
	if err != nil {
		return nil, err
	}
	return ParseRoot(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), keyPEM)
}

// ParseRoot reads a root from PEM. Without keyPEM, the root cannot sign; a key that does not belong to the first certificate is an error.
func ParseRoot(certPEM, keyPEM []byte) (*Root, error) {
	root := &Root{CertPEM: certPEM, KeyPEM: keyPEM}
	for block, rest := pem.Decode(certPEM); block != nil; block, rest = pem.Decode(rest) {
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("parse root certificate: %w", err)
		}
		root.all = append(root.all, cert)
	}
	if len(root.all) == 0 {
		return nil, errors.New("parse root certificate: no PEM block")
	}
	root.cert = root.all[0]
	if len(keyPEM) > 0 {
		pair, err := tls.X509KeyPair(certPEM, keyPEM)
		if err != nil {
			return nil, fmt.Errorf("match root certificate and key: %w", err)
		}
		key, ok := pair.PrivateKey.(crypto.Signer)
		if !ok {
			return nil, errors.New("parse root key: the key cannot sign")
		}
		root.key = key
	}
	return root, nil
}

// Certificate is the root certificate; alone tells that no others that are trusted follow it.
func (r *Root) Certificate() (cert *x509.Certificate, alone bool) { return r.cert, len(r.all) == 1 }

// Digest is the SHA-256 digest of the root certificate, which is part of join tokens.
func (r *Root) Digest() [sha256.Size]byte { return sha256.Sum256(r.cert.Raw) }

// Info is the root as `docker node inspect` shows it.
func (r *Root) Info() shoal.TLSInfo {
	return shoal.TLSInfo{
		TrustRoot:           string(r.CertPEM),
		CertIssuerSubject:   r.cert.RawSubject,
		CertIssuerPublicKey: r.cert.RawSubjectPublicKeyInfo,
	}
}

// Pool is all trusted certificates.
func (r *Root) Pool() *x509.CertPool {
	pool := x509.NewCertPool()
	for _, cert := range r.all {
		pool.AddCert(cert)
	}
	return pool
}

// issuerKey is the public key, in DER, of the trusted certificate that has signed cert, be it through others that follow it in its chain; nil if none has.
func (r *Root) issuerKey(cert *x509.Certificate, chain *x509.CertPool) []byte {
	for _, root := range r.all {
		if cert.CheckSignatureFrom(root) == nil {
			return root.RawSubjectPublicKeyInfo
		}
	}
	for _, root := range r.all {
		pool := x509.NewCertPool()
		pool.AddCert(root)
		_, err := cert.Verify(x509.VerifyOptions{Roots: pool, Intermediates: chain, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny},
			CurrentTime: cert.NotAfter.Add(-time.Second)}) // whether it is valid now is another question
		if err == nil {
			return root.RawSubjectPublicKeyInfo
		}
	}
	return nil
}

// Endorse returns a certificate, in PEM, for the key of another root, signed by this one: nodes that trust only this root accept what the
// other has signed if they are shown it.
func (r *Root) Endorse(other *Root) ([]byte, error) {
	if r.key == nil {
		return nil, errors.New("endorse root: this root has no key")
	}
	serial, err := newSerial()
	if err != nil {
		return nil, err
	}
	template := *other.cert
	template.SerialNumber, template.NotAfter = serial, r.cert.NotAfter
	template.SignatureAlgorithm, template.AuthorityKeyId = 0, nil
	der, err := x509.CreateCertificate(rand.Reader, &template, r.cert, other.cert.PublicKey, r.key)
	if err != nil {
		return nil, fmt.Errorf("endorse root: %w", err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), nil
}

// Sign makes a certificate, in PEM, for the key in a certificate request. Names in the request are ignored: node, cluster and role count. A
// request that cannot be read, or is not signed by its own key, is refused with shoal.InvalidArgument.
func (r *Root) Sign(csrPEM []byte, node shoal.NodeID, cluster shoal.ClusterID, role shoal.NodeRole, expiry time.Duration) ([]byte, error) {
	if r.key == nil {
		return nil, errors.New("sign node certificate: this root has no key")
	}
	csr, err := parseRequest(csrPEM)
	if err != nil {
		return nil, err
	}
	serial, err := newSerial()
	if err != nil {
		return nil, err
	}
	unit := unitOf(role)
	template := &x509.Certificate{
		SerialNumber: serial,
		Subject:      pkix.Name{CommonName: string(node), OrganizationalUnit: []string{unit}, Organization: []string{string(cluster)}},
		DNSNames:     []string{unit, string(node)},
		NotBefore:    time.Now().Add(-backdate),
		NotAfter:     time.Now().Add(expiry),
		KeyUsage:     x509.KeyUsageDigitalSignature | x509.KeyUsageKeyEncipherment,
		ExtKeyUsage:  []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, r.cert, csr.PublicKey, r.key)
	if err != nil {
		return nil, fmt.Errorf("sign certificate of node %s: %w", node, err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), nil
}

// parseRequest reads a certificate request. One that cannot be read, or is not signed by its own key, is refused with shoal.InvalidArgument.
func parseRequest(csrPEM []byte) (*x509.CertificateRequest, error) {
	block, _ := pem.Decode(csrPEM)
	if block == nil {
		return nil, shoal.InvalidArgument("certificate request is not PEM")
	}
	csr, err := x509.ParseCertificateRequest(block.Bytes)
	if err == nil {
		err = csr.CheckSignature()
	}
	if err != nil {
		return nil, shoal.InvalidArgument("certificate request: %v", err)
	}
	return csr, nil
}

// NewRequest makes a private key and a certificate request for it, both in PEM.
func NewRequest() (keyPEM, csrPEM []byte, err error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, fmt.Errorf("make node key: %w", err)
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, key)
	if err != nil {
		return nil, nil, fmt.Errorf("make certificate request: %w", err)
	}
	keyPEM, err = encodeKey(key)
	if err != nil {
		return nil, nil, err
	}
	return keyPEM, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der}), nil
}

func unitOf(role shoal.NodeRole) string {
	if role == shoal.RoleManager {
		return ManagerUnit
	}
	return WorkerUnit
}

func encodeKey(key *ecdsa.PrivateKey) ([]byte, error) {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, fmt.Errorf("encode key: %w", err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), nil
}

func newSerial() (*big.Int, error) {
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	if err != nil {
		return nil, fmt.Errorf("make serial number: %w", err)
	}
	return serial, nil
}
