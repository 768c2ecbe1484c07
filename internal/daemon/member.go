package daemon

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"path/filepath"
	"slices"

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
	return memberInfos(m.Member.Members(ctx))
}

// lastState makes a swarm.Member of what a member has written before.
type lastState struct{ *etcd.Copy }

// Members implements swarm.Member.
func (m lastState) Members(ctx context.Context) ([]swarm.MemberInfo, error) {
	return memberInfos(m.Copy.Members(ctx))
}

func memberInfos(all []etcd.MemberInfo, err error) ([]swarm.MemberInfo, error) {
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
		Peers: slices.DeleteFunc(slices.Clone(cfg.State.Managers), func(addr string) bool { return addr == cfg.State.NodeAddr() }),
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
	return startOrRead(ctx, config)
}

// startOrRead starts a member. If the disk is too full for that, what it has written before is read, so that the manager can show it.
func startOrRead(ctx context.Context, cfg etcd.Config) (swarm.Member, error) {
	member, err := etcd.Start(ctx, cfg)
	if err == nil {
		return storeMember{member}, nil
	}
	if !etcd.WantsRoom(err) || cfg.ForceNew || len(cfg.Initial) > 0 || !etcd.Exists(cfg.Dir) {
		return nil, err
	}
	last, unread := etcd.OpenCopy(cfg, err)
	if unread != nil {
		return nil, fmt.Errorf("%w (nor can its last state be shown: %w)", err, unread)
	}
	return lastState{last}, nil
}
