package ca

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/asn1"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"net/url"

	"github.com/shoal-dev/shoal/internal/shoal"
)

// crossSignProfile is the signing profile that an authority is asked for when it is to endorse a root, as in swarmkit.
const crossSignProfile = "CA"

// External asks certificate authorities outside the cluster for certificates. They serve cfssl's signing API, under certificates of a root that the
// cluster trusts, and know the asking manager by its node certificate.
type External struct {
	// URLs is asked one after the other until one answers with a certificate that will do.
	URLs []string
	// Root is what has to have signed the certificates; it needs no key.
	Root *Root
	// TLS is how they are called: see ExternalTLS.
	TLS *tls.Config
}

// ExternalTLS is the configuration of a node that calls an external certificate authority, whose own certificate must be one of the trusted roots'. A node
// without an identity shows none.
func ExternalTLS(trusted *Root, id *Identity) *tls.Config {
	config := &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: trusted.Pool()} // cfssl's server may be of any age
	if id != nil {
		config.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			cert := id.tlsCertificate()
			return &cert, nil
		}
	}
	return config
}

// Sign gets a certificate, in PEM, for the key in a certificate request, which is followed by those between it and the root, if there are any. Names in the
// request are ignored: node, cluster and role count. How long it is valid is for the authority to say.
func (e *External) Sign(ctx context.Context, csrPEM []byte, node shoal.NodeID, cluster shoal.ClusterID, role shoal.NodeRole) ([]byte, error) {
	csr, err := parseRequest(csrPEM)
	if err != nil {
		return nil, err
	}
	unit := unitOf(role)
	req := signRequest{
		Request: string(csrPEM), Hosts: []string{unit, string(node)},
		Subject: &signSubject{CN: string(node), Names: []signName{{O: string(cluster), OU: unit}}},
	}
	cert, err := e.ask(ctx, req, func(certPEM []byte) error {
		return e.Root.checkIssued(certPEM, csr.PublicKey, node, cluster, role)
	})
	if err != nil {
		return nil, fmt.Errorf("external CA: sign certificate of node %s: %w", node, err)
	}
	return cert, nil
}

// Endorse gets a certificate, in PEM, for the key of another root, which must be there, signed by this authority: see Root.Endorse.
func (e *External) Endorse(ctx context.Context, other *Root) ([]byte, error) {
	if other.key == nil {
		return nil, errors.New("external CA: endorse root: the other root has no key")
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{RawSubject: other.cert.RawSubject}, other.key)
	if err != nil {
		return nil, fmt.Errorf("make certificate request of a root: %w", err)
	}
	req := signRequest{
		Request: string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der})), Profile: crossSignProfile,
		Subject: &signSubject{CN: other.cert.Subject.CommonName},
	}
	for _, ext := range other.cert.Extensions { // cfssl takes no other extensions from a request than names
		if ext.Id.Equal(asn1.ObjectIdentifier{2, 5, 29, 19}) { // basic constraints: that it is a CA
			req.Extensions = append(req.Extensions, signExtension{ID: ext.Id.String(), Critical: ext.Critical, Value: hex.EncodeToString(ext.Value)})
		}
	}
	cert, err := e.ask(ctx, req, func(certPEM []byte) error { return e.Root.checkEndorsement(certPEM, other) })
	if err != nil {
		return nil, fmt.Errorf("external CA: endorse root: %w", err)
	}
	return cert, nil
}

// Reach tries, until ctx ends, whether an authority of those accepts connections under a certificate that the manager trusts.
func (e *External) Reach(ctx context.Context) error {
	var failures []error
	for _, at := range e.URLs {
		err := reach(ctx, at, e.TLS)
		if err == nil {
			return nil
		}
		failures = append(failures, fmt.Errorf("%s: %w", at, err))
	}
	return errors.Join(append(failures, ErrNoExternalURLs)...)
}

func reach(ctx context.Context, at string, config *tls.Config) error {
	where, err := url.Parse(at)
	if err != nil {
		return err
	}
	if where.Scheme != "https" {
		return errors.New("invalid HTTP scheme")
	}
	addr := where.Host
	if where.Port() == "" {
		addr = where.Hostname() + ":443"
	}
	ctx, cancel := context.WithTimeout(ctx, externalTimeout)
	defer cancel()
	conn, err := (&tls.Dialer{Config: config}).DialContext(ctx, "tcp", addr)
	if err != nil {
		return err
	}
	return conn.Close()
}
