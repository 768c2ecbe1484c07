package membership

import (
	"context"
	"encoding/pem"
	"slices"
	"time"

	"github.com/shoal-dev/shoal/internal/ca"
	"github.com/shoal-dev/shoal/internal/shoal"
)

// SigningCA is a root certificate that a user wants the cluster to have, both in PEM; the key may be missing if external authorities have it.
type SigningCA struct{ Cert, Key []byte }

// minRootExpiry is how long a root certificate of a user must be valid, as in Docker.
const minRootExpiry = 365 * 24 * time.Hour

// ChangeCA brings a cluster, a copy that nobody else has, in line with the settings of its certificate authority: moves it to the wanted root if one is given, to
// a new one if it is to be rotated, and checks that it can go on signing. It asks external authorities, if there are any, for what that needs of them. Errors
// have Docker's words.
func (m *Membership) ChangeCA(ctx context.Context, cluster *shoal.Cluster, wanted SigningCA, rotate bool) error {
	m.mu.Lock()
	identity := m.identity
	m.mu.Unlock()
	return caChange{identity, cluster}.apply(ctx, wanted, rotate)
}

// RotateRoot begins to move a cluster that has its root's key to a new root. Until every node has a certificate of it, both are trusted. A rotation that is
// under way is given up for it.
func RotateRoot(cluster *shoal.Cluster) error {
	c := caChange{cluster: cluster}
	return c.rotateToNew(context.Background())
}

// caChange works on a cluster that nobody else has.
type caChange struct {
	identity *ca.Identity // nil if there is no external authority
	cluster  *shoal.Cluster
}

func (c caChange) apply(ctx context.Context, wanted SigningCA, rotate bool) error {
	cluster := c.cluster
	if len(wanted.Key) > 0 && len(wanted.Cert) == 0 {
		return shoal.InvalidArgument("if a signing CA key is provided, the signing CA cert must also be provided")
	}
	keyReturns := len(wanted.Key) > 0 && sameCertificates(wanted.Cert, cluster.RootCA)
	if len(cluster.RootKey) == 0 && !keyReturns {
		if err := c.reach(ctx, cluster.RootCA, "current"); err != nil {
			return err
		}
	}
	switch {
	case len(wanted.Cert) > 0:
		return c.applyWanted(ctx, wanted)
	case rotate:
		return c.rotateToNew(ctx)
	case cluster.Rotation != nil && len(cluster.Rotation.Key) == 0:
		return c.reach(ctx, cluster.Rotation.Cert, "next")
	}
	return nil
}

// applyWanted moves the cluster to a root that the user has given. If it is the present one, a rotation that is under way is given up; if it is that one's, it
// goes on. Either may get its key, or lose it to an external authority.
func (c caChange) applyWanted(ctx context.Context, wanted SigningCA) error {
	cluster := c.cluster
	root, err := checkWanted(wanted)
	if err != nil {
		return err
	}
	if len(wanted.Key) == 0 {
		if err := c.reach(ctx, wanted.Cert, "desired"); err != nil {
			return err
		}
	}
	if sameCertificates(cluster.RootCA, wanted.Cert) {
		c.abort()
		cluster.RootKey = wanted.Key
		return nil
	}
	present, err := ca.ParseRoot(cluster.RootCA, nil)
	if err != nil {
		return err
	}
	if slices.Equal(present.Info().CertIssuerPublicKey, root.Info().CertIssuerPublicKey) {
		return shoal.InvalidArgument("Cannot update to a cert with an identical key")
	}
	if cluster.Rotation != nil && sameCertificates(cluster.Rotation.Cert, wanted.Cert) {
		cluster.Rotation = &shoal.RootRotation{Cert: cluster.Rotation.Cert, Key: wanted.Key}
		return nil
	}
	return c.rotate(ctx, root)
}

// checkWanted refuses what cannot be a root.
func checkWanted(wanted SigningCA) (*ca.Root, error) {
	root, err := ca.ParseRoot(wanted.Cert, wanted.Key)
	if err != nil {
		return nil, shoal.InvalidArgument("%v", err)
	}
	cert, alone := root.Certificate()
	switch {
	case !alone:
		return nil, shoal.InvalidArgument("the desired CA certificate cannot contain multiple certificates")
	case !cert.IsCA:
		return nil, shoal.InvalidArgument("the desired CA certificate is not one of a CA")
	case cert.NotAfter.Before(time.Now().Add(minRootExpiry)):
		return nil, shoal.InvalidArgument("CA certificate expires too soon")
	}
	return root, nil
}

// reach refuses a change after which nobody could sign certificates of a root that the cluster has no key of.
func (c caChange) reach(ctx context.Context, rootPEM []byte, which string) error {
	external, err := externalFor(c.identity, c.cluster, rootPEM)
	if err == nil {
		err = external.Reach(ctx)
	}
	if err != nil {
		return shoal.InvalidArgument("there must be at least one valid, reachable external CA corresponding to the %s CA certificate: %v", which, err)
	}
	return nil
}

func (c caChange) rotateToNew(ctx context.Context) error {
	root, err := ca.NewRoot()
	if err != nil {
		return err
	}
	return c.rotate(ctx, root)
}

// rotate begins to move the cluster to another root, which the present one endorses. The secret of encrypted traffic is made anew too.
func (c caChange) rotate(ctx context.Context, root *ca.Root) error {
	endorsement, err := c.endorse(ctx, root)
	if err != nil {
		return err
	}
	c.abort()
	c.cluster.Rotation = &shoal.RootRotation{Cert: root.CertPEM, Key: root.KeyPEM}
	c.cluster.Intermediates = slices.Concat(endorsement, c.cluster.Intermediates)
	setTunnelSecret(c.cluster, time.Now())
	return nil
}

func (c caChange) endorse(ctx context.Context, root *ca.Root) ([]byte, error) {
	old, err := ca.ParseRoot(c.cluster.RootCA, c.cluster.RootKey)
	if err != nil {
		return nil, err
	}
	if len(old.KeyPEM) > 0 {
		return old.Endorse(root)
	}
	if len(root.KeyPEM) == 0 {
		return nil, shoal.InvalidArgument("rotating from one external CA to a different external CA is not supported")
	}
	external, err := externalFor(c.identity, c.cluster, c.cluster.RootCA)
	if err != nil {
		return nil, err
	}
	if len(external.URLs) == 0 {
		return nil, shoal.InvalidArgument("must provide an external CA for the current external root CA to generate a cross-signed certificate")
	}
	endorsement, err := external.Endorse(ctx, root)
	if err != nil {
		return nil, shoal.RefusalWithCode("Internal", "unable to generate a cross-signed certificate for root rotation: "+err.Error())
	}
	return endorsement, nil
}

// abort gives up a rotation: nodes that have a certificate of its root get one of the present root again. Its endorsement goes with it.
func (c caChange) abort() {
	if c.cluster.Rotation == nil {
		return
	}
	c.cluster.Rotation = nil
	_, c.cluster.Intermediates = pem.Decode(c.cluster.Intermediates)
}
