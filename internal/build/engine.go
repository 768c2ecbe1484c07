package build

import (
	"context"
	"errors"
	"path/filepath"

	controlapi "github.com/moby/buildkit/api/services/control"
	"github.com/moby/buildkit/cache/remotecache"
	inlineremotecache "github.com/moby/buildkit/cache/remotecache/inline"
	localremotecache "github.com/moby/buildkit/cache/remotecache/local"
	registryremotecache "github.com/moby/buildkit/cache/remotecache/registry"
	"github.com/moby/buildkit/control"
	"github.com/moby/buildkit/frontend"
	dockerfile "github.com/moby/buildkit/frontend/dockerfile/builder"
	"github.com/moby/buildkit/frontend/gateway"
	"github.com/moby/buildkit/frontend/gateway/forwarder"
	"github.com/moby/buildkit/solver"
	"github.com/moby/buildkit/solver/bboltcachestorage"
	"github.com/moby/buildkit/util/bklog"
	"github.com/moby/buildkit/util/db/boltutil"
	"github.com/moby/buildkit/util/entitlements"
	"github.com/moby/buildkit/util/grpcerrors"
	"github.com/moby/buildkit/worker"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/shoal-dev/shoal/internal/fault"
	"github.com/shoal-dev/shoal/internal/runtime"
)

// cacheFile is the database of the cache's keys. Where there is none, nothing was ever built.
const cacheFile = "cache.db"

// maxMessage bounds a message of BuildKit's clients, in bytes. It is BuildKit's own bound.
const maxMessage = 16 << 20

// logName is what messages of BuildKit are called in the log.
const logName = "BuildKit"

// engine is BuildKit, running.
type engine struct {
	controller  *control.Controller
	server      *grpc.Server
	connections *connections
	conn        *grpc.ClientConn // to server
	client      controlapi.ControlClient
}

// start starts BuildKit on the databases that there are. What was opened before an error is closed again.
func (b *Builder) start(ctx context.Context) (_ *engine, err error) {
	var opened []func() error
	defer func() {
		if err != nil {
			for _, closeIt := range opened {
				err = errors.Join(err, closeIt())
			}
		}
	}()
	if err := b.makeRoot(); err != nil {
		return nil, err
	}
	ctx = bklog.WithLogger(ctx, b.logger)
	runtime.LogStray(b.Log, logName)
	keys, err := bboltcachestorage.NewStore(filepath.Join(b.Root, cacheFile))
	if err != nil {
		return nil, err
	}
	opened = append(opened, keys.Close)
	history, err := boltutil.Open(filepath.Join(b.Root, "history.db"), 0o600, nil)
	if err != nil {
		return nil, err
	}
	opened = append(opened, history.Close)
	w, err := b.newWorker(ctx)
	if err != nil {
		return nil, err
	}
	opened = append(opened, w.Close)
	controller, err := b.newController(ctx, w, control.Opt{CacheStore: keys, HistoryDB: history})
	if err != nil {
		return nil, err
	}
	return b.serve(controller)
}

// newController puts BuildKit together on a worker and the databases in opt.
func (b *Builder) newController(ctx context.Context, w *imageWorker, opt control.Opt) (*control.Controller, error) {
	workers := &worker.Controller{}
	if err := workers.Add(w); err != nil {
		return nil, err
	}
	external, err := gateway.NewGatewayFrontend(workers.Infos(), nil)
	if err != nil {
		return nil, err
	}
	hosts := b.Registries.Hosts
	opt.SessionManager, opt.WorkerController = b.sessions, workers
	opt.Frontends = map[string]frontend.Frontend{
		"dockerfile.v0": forwarder.NewGatewayForwarder(workers.Infos(), dockerfile.Build),
		"gateway.v0":    external,
	}
	opt.CacheManager = solver.NewCacheManager(ctx, "local", opt.CacheStore, worker.NewCacheResultStorage(workers))
	opt.ResolveCacheImporterFuncs = map[string]remotecache.ResolveCacheImporterFunc{
		"local":    localremotecache.ResolveCacheImporterFunc(b.sessions),
		"registry": registryremotecache.ResolveCacheImporterFunc(b.sessions, w.ContentStore(), hosts),
	}
	opt.ResolveCacheExporterFuncs = map[string]remotecache.ResolveCacheExporterFunc{
		"inline":   inlineremotecache.ResolveCacheExporterFunc(),
		"local":    localremotecache.ResolveCacheExporterFunc(b.sessions),
		"registry": registryremotecache.ResolveCacheExporterFunc(b.sessions, hosts),
	}
	opt.Entitlements = []string{string(entitlements.EntitlementNetworkHost)}
	opt.LeaseManager, opt.ContentStore, opt.GarbageCollect = w.LeaseManager(), w.ContentStore(), w.GarbageCollect
	return control.NewController(opt)
}

// serve serves BuildKit's gRPC services on connections in memory and on those that clients' requests have become.
func (b *Builder) serve(controller *control.Controller) (*engine, error) {
	e := &engine{controller: controller, connections: newConnections()}
	e.server = grpc.NewServer(
		grpc.ChainUnaryInterceptor(grpcerrors.UnaryServerInterceptor, b.unary), grpc.ChainStreamInterceptor(grpcerrors.StreamServerInterceptor, b.stream),
		grpc.MaxRecvMsgSize(maxMessage), grpc.MaxSendMsgSize(maxMessage),
	)
	controller.Register(e.server)
	conn, err := grpc.NewClient("passthrough:///buildkit", grpc.WithContextDialer(e.connections.dial),
		grpc.WithTransportCredentials(insecure.NewCredentials()), // in memory
		grpc.WithUnaryInterceptor(grpcerrors.UnaryClientInterceptor), grpc.WithStreamInterceptor(grpcerrors.StreamClientInterceptor),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maxMessage), grpc.MaxCallSendMsgSize(maxMessage)),
	)
	if err != nil {
		return nil, errors.Join(err, controller.Close())
	}
	e.conn, e.client = conn, controlapi.NewControlClient(conn)
	go fault.Do(b.Log, "gRPC server of the builder", func() {
		if err := e.server.Serve(e.connections); err != nil {
			b.Log.Error("the builder's gRPC server has ended; builds fail until the daemon is started again", "err", err)
		}
	})
	return e, nil
}

// close ends what is being built, which takes as long as a process takes to be killed.
func (e *engine) close() error {
	err := e.conn.Close()
	e.server.Stop()
	return errors.Join(err, e.controller.Close())
}
