package membership

import (
	"bytes"
	"context"
	"encoding/pem"

	"github.com/shoal-dev/shoal/internal/ca"
	"github.com/shoal-dev/shoal/internal/shoal"
)

// sign makes a certificate for a node, in PEM: an external authority of the issuing root does, if the cluster names one, or else this manager with the root's
// key. The identity, which may be nil, is what an external authority is shown.
func sign(ctx context.Context, identity *ca.Identity, cluster *shoal.Cluster, csr []byte, node shoal.NodeID, role shoal.NodeRole) ([]byte, error) {
	root, err := issuingRoot(cluster)
	if err != nil {
		return nil, err
	}
	external, err := externalFor(identity, cluster, root.CertPEM)
	switch {
	case err != nil:
		return nil, err
	case len(external.URLs) > 0:
		cert, err := external.Sign(ctx, csr, node, cluster.ID, role)
		if err != nil {
			return nil, shoal.Unavailable("%v", err)
		}
		return cert, nil
	case len(root.KeyPEM) == 0:
		return nil, shoal.Unavailable("the cluster's root certificate has no key, and there is no external CA for it: %v", ca.ErrNoExternalURLs)
	}
	return root.Sign(csr, node, cluster.ID, role, Expiry(cluster))
}

// externalFor is the external authorities for a root certificate, perhaps without any URL. Those that name no certificate are for the cluster's present one.
func externalFor(identity *ca.Identity, cluster *shoal.Cluster, rootPEM []byte) (*ca.External, error) {
	root, err := ca.ParseRoot(rootPEM, nil)
	if err != nil {
		return nil, err
	}
	all, err := ca.ParseRoot(append(bytes.Clone(trusted(cluster)), rootPEM...), nil)
	if err != nil {
		return nil, err
	}
	external := &ca.External{Root: root, TLS: ca.ExternalTLS(all, identity)}
	for _, e := range cluster.Spec.ExternalCAs {
		cert := []byte(e.CACert)
		if len(cert) == 0 {
			cert = cluster.RootCA
		}
		if e.Protocol == shoal.ProtocolCFSSL && sameCertificates(cert, rootPEM) {
			external.URLs = append(external.URLs, e.URL)
		}
	}
	return external, nil
}

// sameCertificates tells whether two texts in PEM hold the same certificates, whatever their layout.
func sameCertificates(a, b []byte) bool { return bytes.Equal(derOf(a), derOf(b)) }

func derOf(text []byte) []byte {
	var der []byte
	for block, rest := pem.Decode(text); block != nil; block, rest = pem.Decode(rest) {
		der = append(der, block.Bytes...)
	}
	return der
}
