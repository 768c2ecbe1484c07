package ca

import (
	"bytes"
	"crypto"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"slices"

	"github.com/shoal-dev/shoal/internal/shoal"
)

// parseChain reads a certificate and those that follow it, from PEM.
func parseChain(certPEM []byte) (leaf *x509.Certificate, others *x509.CertPool, err error) {
	others = x509.NewCertPool()
	for block, rest := pem.Decode(certPEM); block != nil; block, rest = pem.Decode(rest) {
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, nil, fmt.Errorf("parse certificate: %w", err)
		}
		if leaf == nil {
			leaf = cert
		} else {
			others.AddCert(cert)
		}
	}
	if leaf == nil {
		return nil, nil, errors.New("parse certificate: no PEM block")
	}
	return leaf, others, nil
}

// checkIssued refuses a certificate that is not for the key, does not name the node, its cluster and its role, or does not lead to the root.
func (r *Root) checkIssued(certPEM []byte, key crypto.PublicKey, node shoal.NodeID, cluster shoal.ClusterID, role shoal.NodeRole) error {
	leaf, others, err := parseChain(certPEM)
	if err != nil {
		return err
	}
	if same, ok := leaf.PublicKey.(interface{ Equal(crypto.PublicKey) bool }); !ok || !same.Equal(key) {
		return errors.New("the certificate is for another key than the request")
	}
	unit := unitOf(role)
	subject := leaf.Subject
	if subject.CommonName != string(node) || !slices.Equal(subject.Organization, []string{string(cluster)}) || !slices.Equal(subject.OrganizationalUnit, []string{unit}) {
		return fmt.Errorf("the certificate is for %q, not for node %s of cluster %s as %s", subject, node, cluster, unit)
	}
	if !slices.Contains(leaf.DNSNames, unit) || role != shoal.RoleManager && slices.Contains(leaf.DNSNames, ManagerUnit) {
		return fmt.Errorf("the certificate must have the name %s among its hosts and none of another role: %q", unit, leaf.DNSNames)
	}
	if leaf.IsCA {
		return errors.New("the certificate is one of a CA")
	}
	for _, usage := range []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth} {
		if _, err := leaf.Verify(x509.VerifyOptions{Roots: r.Pool(), Intermediates: others, KeyUsages: []x509.ExtKeyUsage{usage}}); err != nil {
			return fmt.Errorf("the certificate is not one of the cluster's root CA: %w", err)
		}
	}
	return nil
}

// checkEndorsement refuses what is no certificate of the other root's key and name under this one, or none of a CA.
func (r *Root) checkEndorsement(certPEM []byte, other *Root) error {
	cert, others, err := parseChain(certPEM)
	if err != nil {
		return err
	}
	switch {
	case !bytes.Equal(cert.RawSubjectPublicKeyInfo, other.cert.RawSubjectPublicKeyInfo) || !bytes.Equal(cert.RawSubject, other.cert.RawSubject):
		return errors.New("the certificate is for another key or name than the new root's")
	case !cert.IsCA:
		return errors.New("the certificate is not one of a CA")
	}
	if _, err := cert.Verify(x509.VerifyOptions{Roots: r.Pool(), Intermediates: others, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}}); err != nil {
		return fmt.Errorf("the certificate is not one of the present root CA: %w", err)
	}
	return nil
}
