package membership

import (
	"slices"

	"github.com/shoal-dev/shoal/internal/ca"
	"github.com/shoal-dev/shoal/internal/shoal"
	"github.com/shoal-dev/shoal/internal/store"
)

// RotateTokens gives a cluster new join tokens; the old ones admit nobody any more.
func RotateTokens(cluster *shoal.Cluster, worker, manager bool) error {
	root, err := ca.ParseRoot(cluster.RootCA, nil)
	if err != nil {
		return err
	}
	if worker {
		if cluster.Tokens.Worker, err = ca.NewToken(root); err != nil {
			return err
		}
	}
	if manager {
		cluster.Tokens.Manager, err = ca.NewToken(root)
	}
	return err
}

// TLSInfo is the trust of a cluster, or that which it is on its way to.
func TLSInfo(cluster *shoal.Cluster) shoal.TLSInfo {
	root, err := issuingRoot(cluster)
	if err != nil {
		return shoal.TLSInfo{TrustRoot: string(cluster.RootCA)}
	}
	return root.Info()
}

// finishRotation makes the new root the only one; join tokens carry its digest from then on.
func finishRotation(cluster *shoal.Cluster) error {
	cluster.RootCA, cluster.RootKey, cluster.Rotation = cluster.Rotation.Cert, cluster.Rotation.Key, nil
	return RotateTokens(cluster, true, true)
}

// issuingRoot signs new certificates.
func issuingRoot(cluster *shoal.Cluster) (*ca.Root, error) {
	if r := cluster.Rotation; r != nil {
		return ca.ParseRoot(r.Cert, r.Key)
	}
	return ca.ParseRoot(cluster.RootCA, cluster.RootKey)
}

// trusted is the roots that nodes trust (PEM), the newest first.
func trusted(cluster *shoal.Cluster) []byte {
	if r := cluster.Rotation; r != nil {
		return slices.Concat(r.Cert, cluster.RootCA)
	}
	return cluster.RootCA
}

// Trust is what nodes are to trust, and the public key that their certificates are to be signed with.
func Trust(view store.View) (roots, issuer []byte) {
	cluster := view.Cluster()
	if cluster == nil {
		return nil, nil
	}
	return trusted(cluster), TLSInfo(cluster).CertIssuerPublicKey
}

// rotated tells whether every node that is to stay has a certificate of the new root.
func rotated(view store.View) bool {
	cluster := view.Cluster()
	if cluster == nil || cluster.Rotation == nil {
		return false
	}
	_, issuer := Trust(view)
	for _, n := range view.Nodes() {
		if !slices.Equal(n.Description.TLS.CertIssuerPublicKey, issuer) && !n.HasLeft() {
			return false
		}
	}
	return true
}
