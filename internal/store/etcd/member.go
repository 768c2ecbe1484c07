// Package etcd is the store's backend on an embedded etcd member: one per manager node. It reads and writes the member's
// data folder and talks to the other members over TLS; its only client is the process it runs in.
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
)

const (
	heartbeatMs     = 100
	electionMs      = 700
	maxTxnOps       = 16384    // operations, and comparisons, of a transaction
	maxRequestBytes = 64 << 20 // of a transaction
	keptRevisions   = "20000"  // older ones are compacted
)

// TLS is the files by which members trust one another. They are read again at every handshake, so that they may be renewed.
type TLS struct {
	CertFile, KeyFile, CAFile string
	// ServerName is what a peer's certificate must be valid for; empty takes the host of its URL.
	ServerName string
	// AllowedName is a DNS name that a peer's certificate must have to be let in; empty lets in every certificate of the CA.
	AllowedName string
}

// Config is what a Member is made of.
type Config struct {
	// Dir is the member's data folder. A folder with data starts the same member again and Initial is ignored.
	Dir string
	// Name is unique among the members: the node's ID.
	Name string
	// PeerURL is where this member listens for the others and what they are told, "https://10.0.0.1:2380".
	PeerURL string
	// ListenURL is set if the member listens elsewhere than at PeerURL.
	ListenURL string
	// TLS is required when PeerURL is https.
	TLS *TLS
	// Initial is the peer URLs of all members, this one included, by name, when joining; empty founds a cluster of one.
	Initial map[string]string
	// ForceNew makes a cluster of one out of this member's data: the way out when a majority is lost.
	ForceNew bool
	// HeartbeatMs and ElectionMs are raft's heartbeat interval and election timeout in milliseconds; 0: 100 and 700.
	HeartbeatMs, ElectionMs uint
	Log                     *slog.Logger
}

// Member is a running etcd member and the store's backend.
type Member struct {
	log    *slog.Logger
	server *embed.Etcd
	client *clientv3.Client

	mu                sync.Mutex // guards the rest
	epoch             uint64
	leading           bool
	leadershipChanged chan struct{} // closed when leadership changes
}

// Start starts the member and waits until it takes part in the cluster, or ctx ends. Close stops it.
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

// learning returns a channel that is closed when the member is a learner that knows the leader.
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
	s.AdvertiseClientUrls = []url.URL{{Scheme: "http", Host: "localhost:0"}} // nobody connects: clients are in this process
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
	s.StrictReconfigCheck = false // it makes every change of members wait for 5 s; whoever changes them looks after the majority
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

// Close stops the member. The rest of the cluster goes on.
func (m *Member) Close() {
	_ = m.client.Close()
	m.server.Close()
}

// Done is closed when the member has stopped, be it by Close or because it was removed from the cluster.
func (m *Member) Done() <-chan struct{} { return m.server.Server.StopNotify() }

// retryPause is the time between attempts at what the cluster refuses only for the moment.
const retryPause = 200 * time.Millisecond
