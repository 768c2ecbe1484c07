package membership

import (
	"github.com/shoal-dev/shoal/internal/ca"
	"github.com/shoal-dev/shoal/internal/shoal"
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

// TLSInfo is the trust of a cluster.
func TLSInfo(cluster *shoal.Cluster) shoal.TLSInfo {
	root, err := ca.ParseRoot(cluster.RootCA, nil)
	if err != nil {
		return shoal.TLSInfo{TrustRoot: string(cluster.RootCA)}
	}
	return root.Info()
}
