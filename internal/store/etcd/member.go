// Package etcd is the store's backend on an embedded etcd member, of which each manager has one. It reads and writes the member's data folder and talks
// to the other members over TLS. It opens no port for clients: the only one is the process that it runs in.
package etcd

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"os"
	"sync"
	"time"

	"go.etcd.io/etcd/client/pkg/v3/transport"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/server/v3/embed"
	"go.etcd.io/etcd/server/v3/etcdserver/api/v3client"

	"github.com/shoal-dev/shoal/internal/store"
)

const (
	heartbeatMs   = 100                 // from the leader to the other members
	electionMs    = 700                 // without a heartbeat, until a member stands for election
	maxTxnOps     = store.MaxTxnOps + 1 // of etcd's own; a fence is one comparison more
	keptRevisions = "20000"             // past revisions that a watch can begin at
	// maxRequestBytes is more than a transaction of store.MaxTxnBytes needs, whose keys are sent three times: to compare, to write and to read when
	// a comparison fails.
	maxRequestBytes = 4 * store.MaxTxnBytes
)

// TLS names the files with the certificates and keys of the members. They are read again at every handshake, so that they can be renewed; only CAFile
// is read once, at the start.
type TLS struct {
	CertFile, KeyFile, CAFile string
	// ServerName is the name that the certificate of a peer must be valid for; empty is the host in its URL.
	ServerName string
	// AllowedName is a DNS name that the certificate of a connecting peer must have; empty accepts every certificate of the CA.
	AllowedName string
}

// Config is what a Member needs. Dir, Name and PeerURL are required.
type Config struct {
	// Dir is the member's data folder. If it has data, the member that wrote them is started again and Initial is ignored.
	Dir string
	// Name is unique among the members: the node's ID.
	Name string
	// PeerURL is where the other members reach this one: "https://10.0.0.1:2378".
	PeerURL string
	// ListenURL is where the member listens for them; empty if that is PeerURL.
	ListenURL string
	// TLS is required when PeerURL is https.
	TLS *TLS
	// Initial is the peer URLs of all members by name, this one included, for a member that joins: see Add. If it is empty, the member founds a
	// cluster of its own.
	Initial map[string]string
	// ForceNew removes all other members and makes a cluster of this one, with its data: the way out when the majority is lost for good.
	ForceNew bool
	// HeartbeatMs and ElectionMs are etcd's timing in milliseconds; 0 means 100 and 700.
	HeartbeatMs, ElectionMs uint
	Log                     *slog.Logger
}

// Member is a running etcd member and the store's backend.
type Member struct {
	log    *slog.Logger
	server *embed.Etcd
	client *clientv3.Client

	mu                sync.Mutex // guards epoch, leading, leadershipChanged
	epoch             uint64
	leading           bool
	leadershipChanged chan struct{} // closed when leadership changes
}

// Start starts a member and waits until it takes part in the cluster. If ctx ends before, the member is stopped. Close stops it later.
func Start(ctx context.Context, cfg Config) (*Member, error) {
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	settings, err := settings(cfg)
	if err != nil {
		return nil, err
	}
	server, err := embed.StartEtcd(settings)
	if err != nil {
		return nil, fmt.Errorf("start etcd: %w", err)
	}
	select {
	case <-server.Server.ReadyNotify():
	case err := <-server.Err():
		server.Close()
		return nil, fmt.Errorf("start etcd: %w", err)
	case <-server.Server.StopNotify():
		server.Close()
		return nil, errors.New("start etcd: member has stopped")
	case <-learning(ctx, server): // a learner is never ready before its promotion, but it can be promoted now
	case <-ctx.Done():
		server.Close()
		return nil, fmt.Errorf("start etcd: %w", ctx.Err())
	}
	return &Member{log: cfg.Log, server: server, client: v3client.New(server.Server), leadershipChanged: make(chan struct{})}, nil
}

// learning returns a channel that is closed when the member is a learner and knows the leader.
func learning(ctx context.Context, server *embed.Etcd) <-chan struct{} {
	known := make(chan struct{})
	go func() {
		for {
			changed := server.Server.LeaderChangedNotify()
			if server.Server.Leader() != 0 && server.Server.IsLearner() {
				close(known)
				return
			}
			select {
			case <-changed:
			case <-ctx.Done():
				return
			case <-server.Server.ReadyNotify():
				return
			case <-server.Server.StopNotify():
				return
			}
		}
	}()
	return known
}

// settings is the configuration in etcd's form.
func settings(cfg Config) (*embed.Config, error) {
	peer, err := url.Parse(cfg.PeerURL)
	if err != nil {
		return nil, fmt.Errorf("parse peer URL: %w", err)
	}
	listen := peer
	if cfg.ListenURL != "" {
		if listen, err = url.Parse(cfg.ListenURL); err != nil {
			return nil, fmt.Errorf("parse listen URL: %w", err)
		}
	}
	if err := os.MkdirAll(cfg.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("make etcd folder: %w", err)
	}
	s := embed.NewConfig()
	s.Name, s.Dir = cfg.Name, cfg.Dir
	s.ListenPeerUrls, s.AdvertisePeerUrls = []url.URL{*listen}, []url.URL{*peer}
	s.ListenClientUrls = nil
	s.AdvertiseClientUrls = []url.URL{{Scheme: "http", Host: "localhost:0"}} // etcd demands one, though no port is open for clients
	s.TickMs, s.ElectionMs = cfg.HeartbeatMs, cfg.ElectionMs
	if s.TickMs == 0 {
		s.TickMs = heartbeatMs
	}
	if s.ElectionMs == 0 {
		s.ElectionMs = electionMs
	}
	s.MaxTxnOps, s.MaxRequestBytes = maxTxnOps, maxRequestBytes
	s.AutoCompactionMode, s.AutoCompactionRetention = embed.CompactorModeRevision, keptRevisions
	s.MaxLearners = 8
	s.StrictReconfigCheck = false // it would delay every change of members by 5 s; our callers make sure that a majority remains
	s.ForceNewCluster = cfg.ForceNew
	s.ZapLoggerBuilder = embed.NewZapLoggerBuilder(newZapLogger(cfg.Log))
	s.InitialCluster, s.ClusterState = cfg.Name+"="+cfg.PeerURL, embed.ClusterStateFlagNew
	if len(cfg.Initial) > 0 {
		s.InitialCluster, s.ClusterState = "", embed.ClusterStateFlagExisting
		for name, u := range cfg.Initial {
			if s.InitialCluster != "" {
				s.InitialCluster += ","
			}
			s.InitialCluster += name + "=" + u
		}
	}
	if cfg.TLS != nil {
		s.PeerTLSInfo = transport.TLSInfo{
			CertFile: cfg.TLS.CertFile, KeyFile: cfg.TLS.KeyFile, TrustedCAFile: cfg.TLS.CAFile,
			ClientCertAuth: true, ServerName: cfg.TLS.ServerName, SkipClientSANVerify: true,
		}
		if cfg.TLS.AllowedName != "" {
			s.PeerTLSInfo.AllowedHostnames = []string{cfg.TLS.AllowedName}
		}
	}
	return s, nil
}

// Close stops the member and waits for that. The other members go on.
func (m *Member) Close() {
	_ = m.client.Close()
	m.server.Close()
}

// Done is closed when the member has stopped, be it by Close or because it was removed from the cluster.
func (m *Member) Done() <-chan struct{} { return m.server.Server.StopNotify() }

// retryPause is the time between two attempts at a request that the cluster refuses only for the moment.
const retryPause = 200 * time.Millisecond
