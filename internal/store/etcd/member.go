// Package etcd is the store's backend on an embedded etcd member, of which each manager has one. It reads and writes the member's data folder and talks
// to the other members over TLS. It opens no port for clients: the only one is the process that it runs in.
package etcd

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"syscall"
	"time"

	"github.com/containerd/errdefs"
	"go.etcd.io/etcd/client/pkg/v3/fileutil"
	"go.etcd.io/etcd/client/pkg/v3/transport"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/server/v3/embed"
	"go.etcd.io/etcd/server/v3/etcdserver/api/snap"
	"go.etcd.io/etcd/server/v3/etcdserver/api/v3client"
	"go.etcd.io/etcd/server/v3/storage/wal"
	"go.etcd.io/etcd/server/v3/storage/wal/walpb"
	"google.golang.org/protobuf/proto"

	"github.com/shoal-dev/shoal/internal/store"
)

const (
	heartbeatMs = 100                 // from the leader to the other members
	electionMs  = 700                 // without a heartbeat, until a member stands for election
	maxTxnOps   = store.MaxTxnOps + 1 // of etcd's own; a fence is one comparison more
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
	// HeartbeatMs and ElectionMs are etcd's timing in milliseconds; 0 means 100 and 700, or more if the way to Peers or the disk asks for it.
	HeartbeatMs, ElectionMs uint
	// Peers is where the other members' machines are, "host:port", to measure the way to them.
	Peers []string
	// MinFree is the free disk space, in bytes, below which the member takes no writes; 0 means 256 MiB.
	MinFree uint64
	// Quota is the size of the database, in bytes, beyond which etcd takes no writes; 0 means 2 GiB.
	Quota int64
	// MaintenanceInterval is the time between two passes of compaction and defragmentation; 0 means 30 s.
	MaintenanceInterval time.Duration
	Log                 *slog.Logger
}

// withDefaults is the configuration with what it leaves open.
func (c Config) withDefaults() Config {
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	c.MinFree, c.Quota = cmp.Or(c.MinFree, defaultMinFree), cmp.Or(c.Quota, defaultQuota)
	c.MaintenanceInterval = cmp.Or(c.MaintenanceInterval, maintenanceInterval)
	if c.ElectionMs != 0 {
		c.HeartbeatMs = cmp.Or(c.HeartbeatMs, heartbeatMs)
	}
	return c
}

// Member is a running etcd member and the store's backend.
type Member struct {
	cfg    Config
	log    *slog.Logger
	server *embed.Etcd
	client *clientv3.Client
	failed *failure
	done   chan struct{} // closed when the member has stopped, for whatever reason
	close  func()        // once

	mu                sync.Mutex // guards all below
	epoch             uint64
	leading           bool
	leadershipChanged chan struct{} // closed when leadership changes
	full              error         // why no writes are taken; nil while they are
	fullAt            uint64        // the free space that full tells of
	segment           *nextSegment  // that etcd is kept from allocating; nil if it is not
	compacted         int64         // history is forgotten up to this revision
}

// errGaveUp is the error of a start that etcd has given up without a word of why.
var errGaveUp = errors.New("etcd has given up")

// A member that joins asks the others for the cluster before it writes anything. They may be slow to answer, all the more while they take in a new member.
const (
	joinTries = 3
	joinPause = 500 * time.Millisecond
)

// joins tells whether the member is new in a cluster of others.
func (c *Config) joins() bool { return len(c.Initial) > 0 && !Exists(c.Dir) }

// pause waits, and tells whether ctx goes on.
func pause(ctx context.Context, length time.Duration) bool {
	select {
	case <-ctx.Done():
		return false
	case <-time.After(length):
		return true
	}
}

// Start starts a member and waits until it takes part in the cluster. If ctx ends before, the member is stopped. Close stops it later. The error
// wraps store.ErrRemoved if the other members know this one no more.
func Start(ctx context.Context, cfg Config) (*Member, error) {
	cfg = cfg.withDefaults()
	if err := os.MkdirAll(cfg.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("make etcd folder: %w", err)
	}
	if cfg.ElectionMs == 0 {
		heartbeat, election := measuredTiming(ctx, cfg.Dir, cfg.Peers)
		cfg.HeartbeatMs, cfg.ElectionMs = cmp.Or(cfg.HeartbeatMs, uint(heartbeat.Milliseconds())), uint(election.Milliseconds())
		if election > electionMs*time.Millisecond {
			cfg.Log.Info("the way to the other managers or the disk is slow: a leader that falls silent is replaced later", "after", election)
		}
	}
	failed := newFailure()
	settings, err := newSettings(cfg, failed)
	if err != nil {
		return nil, err
	}
	free, err := freeSpace(cfg.Dir)
	if err == nil && free < cfg.MinFree/stopPart {
		return nil, noRoom(cfg.Dir, free, cfg.MinFree)
	}
	var segment *nextSegment
	if err == nil && free < cfg.MinFree && Exists(cfg.Dir) {
		segment = holdNextSegment(cfg.Log, cfg.Dir)
	}
	server, err := startServer(cfg, settings, failed)
	for try := 1; err != nil && try < joinTries && cfg.joins() && pause(ctx, joinPause); try++ {
		cfg.Log.Info("the other members did not tell this one of the cluster; they are asked again", "err", err)
		failed = newFailure()
		if settings, err = newSettings(cfg, failed); err == nil {
			server, err = startServer(cfg, settings, failed)
		}
	}
	if err != nil {
		segment.release()
		return nil, fmt.Errorf("start etcd: %w", err)
	}
	m := &Member{
		cfg: cfg, log: cfg.Log, server: server, failed: failed, done: make(chan struct{}), leadershipChanged: make(chan struct{}), segment: segment,
	}
	m.close = sync.OnceFunc(m.stop)
	go func() {
		defer close(m.done)
		select {
		case <-server.Server.StopNotify():
		case <-failed.failed:
		}
	}()
	select {
	case <-server.Server.ReadyNotify():
	case err = <-server.Err():
	case <-m.done:
		err = cmp.Or(failed.cause(), errors.New("member has stopped"))
	case <-learning(ctx, server): // a learner is never ready before its promotion, but it can be promoted now
	case <-ctx.Done():
		err = cmp.Or(failed.cause(), ctx.Err())
	}
	if err != nil {
		m.Close()
		if segment != nil && errors.Is(err, context.DeadlineExceeded) { // it may have waited for the segment
			err = fmt.Errorf("%w: %w", err, noRoom(cfg.Dir, free, cfg.MinFree))
		}
		return nil, fmt.Errorf("start etcd: %w", err)
	}
	m.client = v3client.New(server.Server)
	if err := m.publishURL(ctx); err != nil {
		m.Close()
		return nil, err
	}
	return m, nil
}

// Exists tells whether a member has written data to a folder.
func Exists(dir string) bool { return wal.Exist(filepath.Join(dir, "member", "wal")) }

// publishURL tells the other members where this one is reached now, if that was elsewhere before.
func (m *Member) publishURL(ctx context.Context) error {
	id := m.server.Server.MemberID()
	known := m.server.Server.Cluster().Member(id)
	if known == nil || known.IsLearner || slices.Equal(known.PeerURLs, []string{m.cfg.PeerURL}) {
		return nil
	}
	ctx, cancel := m.whileRunning(ctx)
	defer cancel()
	if _, err := m.client.MemberUpdate(ctx, uint64(id), []string{m.cfg.PeerURL}); err != nil {
		return fmt.Errorf("publish the new address %s of the store member: %w", m.cfg.PeerURL, err)
	}
	return nil
}

// startServer starts etcd. If etcd gives up meanwhile, what it has opened is released.
func startServer(cfg Config, settings *embed.Config, failed *failure) (*embed.Etcd, error) {
	type outcome struct {
		server *embed.Etcd
		err    error
	}
	started := make(chan outcome, 1)
	go func() {
		result := outcome{err: errGaveUp}
		defer func() {
			if reason := recover(); reason != nil {
				failed.set(fmt.Errorf("%v", reason))
			}
			started <- result
		}()
		result.server, result.err = embed.StartEtcd(settings)
	}()
	result := outcome{err: errGaveUp}
	select {
	case result = <-started:
	case <-failed.failed:
		select { // what starts may wait for the part that has failed
		case result = <-started:
		case <-time.After(failedStartLimit):
		}
	}
	switch {
	case result.err == nil:
		return result.server, nil
	case unreadable(result.err):
		return nil, damage(result.err)
	case !errors.Is(result.err, errGaveUp):
		return nil, result.err
	}
	abandon(cfg.Log, cfg.Dir, listenPort(settings))
	return nil, damage(cmp.Or(failed.cause(), errGaveUp))
}

// unreadable tells whether an error says that etcd's files do not hold what they should.
func unreadable(err error) bool {
	for _, known := range []error{
		walpb.ErrCRCMismatch, wal.ErrCRCMismatch, wal.ErrMetadataConflict, wal.ErrFileNotFound, wal.ErrSnapshotMismatch, wal.ErrSnapshotNotFound,
		wal.ErrSliceOutOfRange, wal.ErrDecoderNotFound, snap.ErrEmptySnapshot, snap.ErrCRCMismatch, io.ErrUnexpectedEOF, proto.Error,
	} {
		if errors.Is(err, known) {
			return true
		}
	}
	return false
}

// damage is the error of a start that etcd has given up. Errors of the system may go away; whatever else etcd finds in its files does not.
func damage(cause error) error {
	if _, ok := errors.AsType[syscall.Errno](cause); ok || errors.Is(cause, fileutil.ErrLocked) {
		return cause
	}
	return fmt.Errorf("%w: %w", store.ErrDamaged, cause)
}

func listenPort(settings *embed.Config) int {
	port, err := strconv.Atoi(settings.ListenPeerUrls[0].Port())
	if err != nil {
		return 0 // a URL without a port: etcd refuses it
	}
	return port
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
func newSettings(cfg Config, failed *failure) (*embed.Config, error) {
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
	s := embed.NewConfig()
	s.Name, s.Dir = cfg.Name, cfg.Dir
	s.ListenPeerUrls, s.AdvertisePeerUrls = []url.URL{*listen}, []url.URL{*peer}
	s.ListenClientUrls = nil
	s.AdvertiseClientUrls = []url.URL{{Scheme: "http", Host: "localhost:0"}} // etcd demands one, though no port is open for clients
	s.TickMs, s.ElectionMs = cfg.HeartbeatMs, cfg.ElectionMs
	s.MaxTxnOps, s.MaxRequestBytes = maxTxnOps, maxRequestBytes
	s.QuotaBackendBytes = cfg.Quota
	s.MaxLearners = 8
	s.StrictReconfigCheck = false // it would delay every change of members by 5 s; our callers make sure that a majority remains
	s.ForceNewCluster = cfg.ForceNew
	s.ZapLoggerBuilder = embed.NewZapLoggerBuilder(newZapLogger(cfg.Log, failed))
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

// failedStartLimit is how long a start may go on after a part of it has failed.
const failedStartLimit = 2 * time.Second

const (
	closeLimit       = 15 * time.Second // for a member that works
	failedCloseLimit = 2 * time.Second  // for one that has failed, most of whose parts wait for the one that is missing
)

// Close stops the member and waits for that. The other members go on. Further calls do nothing.
func (m *Member) Close() { m.close() }

func (m *Member) stop() {
	m.releaseSegment(true) // etcd may wait for it
	if m.client != nil {
		_ = m.client.Close()
	}
	limit := closeLimit
	if err := m.failed.cause(); err != nil && !errors.Is(err, store.ErrRemoved) && !errdefs.IsUnavailable(err) {
		limit = failedCloseLimit
	}
	closed := make(chan bool, 1)
	go func() {
		clean := false
		defer func() { closed <- clean }() // also if etcd gives up
		m.server.Close()
		clean = true
	}()
	select {
	case clean := <-closed:
		if clean {
			return
		}
	case <-time.After(limit):
	}
	m.failed.set(errors.New("the store member could not be closed"))
	m.log.Warn("the store member cannot be closed in good order; its files are taken from it")
	for _, p := range m.server.Peers {
		_ = p.Close()
	}
	abandon(m.log, m.cfg.Dir, 0)
}

// Done is closed when the member has stopped, be it by Close, because it was removed from the cluster or because it has failed: see Err.
func (m *Member) Done() <-chan struct{} { return m.done }

// Err is why the member has stopped: store.ErrRemoved, or what it failed with; nil if it runs or was closed.
func (m *Member) Err() error { return m.failed.cause() }

// errStopped is the error of requests to a member that has stopped.
var errStopped = errors.New("this manager's store member has stopped")

// whileRunning is ctx, until the member stops.
func (m *Member) whileRunning(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancelCause(ctx)
	go func() {
		select {
		case <-m.done:
			cancel(errStopped)
		case <-ctx.Done():
		}
	}()
	return ctx, func() { cancel(nil) }
}

// retryPause is the time between two attempts at a request that the cluster refuses only for the moment.
const retryPause = 200 * time.Millisecond
