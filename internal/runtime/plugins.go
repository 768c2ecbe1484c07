package runtime

import (
	"context"
	"io"
	"log/slog"
	"os"
	"sync"

	"github.com/containerd/containerd/v2/client"
	"github.com/containerd/containerd/v2/pkg/namespaces"
	"github.com/containerd/containerd/v2/plugins"
	"github.com/containerd/log"
	"github.com/containerd/platforms"
	"github.com/containerd/plugin"
	"github.com/containerd/plugin/registry"
	"github.com/sirupsen/logrus"

	// The parts of containerd in use; each registers itself when it is imported. The Kubernetes and plugin interfaces (CRI, NRI), other
	// snapshotters and all servers but the one for shims are left out.
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

// captureKey is the key of a context's *capture.
type captureKey struct{}

// capture takes the client out of the plugin that makes it. Each containerd in the process (tests run several) finds its own in the
// context that it is started with, because the registry of plugins is one for all.
type capture struct{ client *client.Client }

// registerClient adds our plugin to containerd's registry, once per process.
var registerClient = sync.OnceFunc(func() { //nolint:gochecknoglobals // containerd's registry is one per process
	// Where containerd logs without a context, it logs to standard error. What is less than a warning is dropped there.
	_ = log.SetLevel("warn") // fails for unknown levels only
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

// newClient makes a client that calls the other plugins in memory, for the containerd whose context has a capture.
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
	out.client = c
	return c, nil
}

// WithNamespace returns ctx with containerd's namespace set to Namespace, unless one is set already. Calls of containerd need it.
func WithNamespace(ctx context.Context) context.Context {
	if _, ok := namespaces.Namespace(ctx); ok {
		return ctx
	}
	return namespaces.WithNamespace(ctx, Namespace)
}

// withLogger makes containerd log to l. Its errors become warnings, because what they mean for a container is for shoal to say, and its
// warnings become debug messages. What is less is dropped.
func withLogger(ctx context.Context, l *slog.Logger) context.Context {
	return log.WithLogger(ctx, Logger(l, "containerd"))
}

// Logger returns a logger of the kind that containerd and BuildKit write to, whose messages go to l under a name.
func Logger(l *slog.Logger, name string) *logrus.Entry {
	logger := logrus.New()
	logger.SetOutput(io.Discard)
	logger.SetLevel(logrus.WarnLevel)
	logger.AddHook(&slogHook{l, name})
	return logrus.NewEntry(logger)
}

// LogStray takes what is logged where no logger is at hand, which there is one place for in the process: it goes to l under a name; with nil to standard error.
func LogStray(l *slog.Logger, name string) {
	stray := logrus.StandardLogger()
	if l == nil {
		stray.ReplaceHooks(logrus.LevelHooks{})
		stray.SetOutput(os.Stderr)
		return
	}
	hooks := logrus.LevelHooks{}
	hooks.Add(&slogHook{l, name})
	stray.ReplaceHooks(hooks)
	stray.SetOutput(io.Discard)
}

// slogHook passes messages of logrus, containerd's logger, to slog.
type slogHook struct {
	log  *slog.Logger
	name string
}

// Levels implements logrus.Hook.
func (h *slogHook) Levels() []logrus.Level { return logrus.AllLevels }

// Fire implements logrus.Hook.
func (h *slogHook) Fire(e *logrus.Entry) error {
	level := slog.LevelDebug
	if e.Level <= logrus.ErrorLevel {
		level = slog.LevelWarn
	}
	attrs := make([]slog.Attr, 0, len(e.Data)+2)
	attrs = append(attrs, slog.String("library", h.name), slog.String("message", e.Message))
	for k, v := range e.Data {
		attrs = append(attrs, slog.Any(k, v))
	}
	h.log.LogAttrs(context.Background(), level, "message of a library", attrs...)
	return nil
}
