package daemon

import (
	"context"
	"log/slog"
	"net"
	"net/url"
	"path/filepath"

	"github.com/shoal-dev/shoal/internal/ca"
	"github.com/shoal-dev/shoal/internal/daemon/swarm"
	"github.com/shoal-dev/shoal/internal/membership"
	"github.com/shoal-dev/shoal/internal/store"
	"github.com/shoal-dev/shoal/internal/store/etcd"
)

// storeMember makes a swarm.Member of an etcd member.
type storeMember struct{ *etcd.Member }

// Members implements swarm.Member.
func (m storeMember) Members(ctx context.Context) ([]swarm.MemberInfo, error) {
	all, err := m.Member.Members(ctx)
	if err != nil {
		return nil, err
	}
	out := make([]swarm.MemberInfo, 0, len(all))
	for _, info := range all {
		out = append(out, swarm.MemberInfo{ID: info.ID, Name: info.Name, PeerURL: info.PeerURL, Learner: info.Learner})
	}
	return out, nil
}

// startMember starts the node's etcd member, with its data in the node's swarm folder and the credentials of the node's identity.
func startMember(ctx context.Context, log *slog.Logger, cfg membership.ManagerConfig) (swarm.Member, error) {
	peerURL, err := cfg.State.PeerURL()
	if err != nil {
		return nil, err
	}
	u, err := url.Parse(peerURL)
	if err != nil {
		return nil, err
	}
	config := etcd.Config{
		Dir: filepath.Join(cfg.Dir, membership.StoreDir, "etcd"), Name: string(cfg.Identity.NodeID()),
		PeerURL: peerURL, ListenURL: "https://" + net.JoinHostPort(cfg.State.ListenAddr.Addr().String(), u.Port()),
		TLS: &etcd.TLS{
			CertFile: filepath.Join(cfg.Identity.Dir(), ca.CertFile), KeyFile: cfg.Identity.OpenKeyFile(),
			CAFile: filepath.Join(cfg.Identity.Dir(), ca.RootFile), ServerName: ca.ManagerUnit, AllowedName: ca.ManagerUnit,
		},
		ForceNew: cfg.ForceNew, Log: log,
	}
	if cfg.Join == nil && !cfg.Found && !etcd.Exists(config.Dir) {
		return nil, store.ErrNoData
	}
	if cfg.Join != nil {
		config.Initial = make(map[string]string, len(cfg.Join.PeerURLs))
		for node, url := range cfg.Join.PeerURLs {
			config.Initial[string(node)] = url // members are named after their nodes
		}
	}
	member, err := etcd.Start(ctx, config)
	if err != nil {
		return nil, err
	}
	return storeMember{member}, nil
}
