package runtime

import (
	"context"
	"log/slog"
	"sync"

	"github.com/containerd/containerd/v2/client"
	"github.com/containerd/containerd/v2/core/transfer"
	"github.com/containerd/containerd/v2/pkg/namespaces"
	"github.com/containerd/containerd/v2/plugins"
	"github.com/containerd/log"
	"github.com/containerd/platforms"
	"github.com/containerd/plugin"
	"github.com/containerd/plugin/registry"
	"github.com/sirupsen/logrus"

	// The parts of containerd in use; each registers itself when imported. CRI, NRI, other snapshotters and the servers are left out.
	_ "github.com/containerd/containerd/v2/core/runtime/v2"
	_ "github.com/containerd/containerd/v2/plugins/content/local/plugin"
	_ "github.com/containerd/containerd/v2/plugins/diff/walking/plugin"
	_ "github.com/containerd/containerd/v2/plugins/events"
	_ "github.com/containerd/containerd/v2/plugins/gc"
	_ "github.com/containerd/containerd/v2/plugins/imageverifier"
	_ "github.com/containerd/containerd/v2/plugins/leases"
	_ "github.com/containerd/containerd/v2/plugins/metadata"
	_ "github.com/containerd/containerd/v2/plugins/mount"
	_ "github.com/containerd/containerd/v2/plugins/sandbox"
	_ "github.com/containerd/containerd/v2/plugins/server/ttrpc"
	_ "github.com/containerd/containerd/v2/plugins/services/containers"
	_ "github.com/containerd/containerd/v2/plugins/services/content"
	_ "github.com/containerd/containerd/v2/plugins/services/diff"
	_ "github.com/containerd/containerd/v2/plugins/services/events"
	_ "github.com/containerd/containerd/v2/plugins/services/images"
	_ "github.com/containerd/containerd/v2/plugins/services/introspection"
	_ "github.com/containerd/containerd/v2/plugins/services/leases"
	_ "github.com/containerd/containerd/v2/plugins/services/namespaces"
	_ "github.com/containerd/containerd/v2/plugins/services/sandbox"
	_ "github.com/containerd/containerd/v2/plugins/services/snapshots"
	_ "github.com/containerd/containerd/v2/plugins/services/tasks"
	_ "github.com/containerd/containerd/v2/plugins/services/warning"
	_ "github.com/containerd/containerd/v2/plugins/snapshots/overlay/plugin"
	_ "github.com/containerd/containerd/v2/plugins/transfer"
)

type captureKey struct{}

// capture carries the client out of the plugin that makes it. Each server gets its own by its context, because
// containerd's registry is one per process.
type capture struct {
	client   *client.Client
	transfer transfer.Transferrer
}

// registerClient adds our plugin to containerd's registry, once per process.
var registerClient = sync.OnceFunc(func() { //nolint:gochecknoglobals // containerd's registry is one per process
	// Where containerd logs without a context it logs to standard error; drop all below warnings.
	_ = log.SetLevel("warn")
	registry.Register(&plugin.Registration{
		Type: plugins.InternalPlugin,
		ID:   "shoal-client",
		Requires: []plugin.Type{
			plugins.EventPlugin, plugins.LeasePlugin, plugins.SandboxStorePlugin, plugins.TransferPlugin,
			plugins.MountManagerPlugin, plugins.ServicePlugin,
		},
		InitFn: newClient,
	})
})

func newClient(ic *plugin.InitContext) (any, error) {
	out, ok := ic.Context.Value(captureKey{}).(*capture)
	if !ok {
		return nil, plugin.ErrSkipPlugin
	}
	c, err := client.New("",
		client.WithDefaultNamespace(Namespace),
		client.WithDefaultPlatform(platforms.Default()),
		client.WithInMemoryServices(ic),
	)
	if err != nil {
		return nil, err
	}
	t, err := ic.GetSingle(plugins.TransferPlugin)
	if err != nil {
		return nil, err
	}
	out.client, out.transfer = c, t.(transfer.Transferrer)
	return c, nil
}

// WithNamespace returns ctx with containerd's namespace set to Namespace, unless one is set already.
func WithNamespace(ctx context.Context) context.Context {
	if _, ok := namespaces.Namespace(ctx); ok {
		return ctx
	}
	return namespaces.WithNamespace(ctx, Namespace)
}

// withLogger makes containerd log to l: its errors as warnings, its warnings as debug. What is below is dropped.
func withLogger(ctx context.Context, l *slog.Logger) context.Context {
	logger := logrus.New()
	logger.SetOutput(discard{})
	logger.SetLevel(logrus.WarnLevel)
	logger.AddHook(&slogHook{l})
	return log.WithLogger(ctx, logrus.NewEntry(logger))
}

type discard struct{}

func (discard) Write(p []byte) (int, error) { return len(p), nil }

type slogHook struct{ log *slog.Logger }

func (h *slogHook) Levels() []logrus.Level { return logrus.AllLevels }

func (h *slogHook) Fire(e *logrus.Entry) error {
	level := slog.LevelDebug
	if e.Level <= logrus.ErrorLevel {
		level = slog.LevelWarn
	}
	attrs := make([]slog.Attr, 0, len(e.Data)+1)
	attrs = append(attrs, slog.String("message", e.Message))
	for k, v := range e.Data {
		attrs = append(attrs, slog.Any(k, v))
	}
	h.log.LogAttrs(context.Background(), level, "containerd", attrs...)
	return nil
}
