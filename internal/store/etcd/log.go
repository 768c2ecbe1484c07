package etcd

import (
	"context"
	"log/slog"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/shoal-dev/shoal/internal/store"
)

// newZapLogger is etcd's logger: what etcd has to say from warnings upwards goes to log, under the group "etcd". Below that, etcd
// tells of its normal work in more lines than all the rest of the daemon. Where etcd would end the process, failed learns of it and the goroutine ends.
func newZapLogger(log *slog.Logger, failed *failure) *zap.Logger {
	return zap.New(&slogCore{log: log.WithGroup("etcd"), failed: failed}, zap.WithFatalHook(failed), zap.WithPanicHook(failed))
}

// slogCore is a zapcore.Core that writes to a slog.Logger.
type slogCore struct {
	log    *slog.Logger
	failed *failure
}

// Enabled implements zapcore.Core.
func (c *slogCore) Enabled(level zapcore.Level) bool { return level >= zapcore.WarnLevel }

// With implements zapcore.Core.
func (c *slogCore) With(fields []zapcore.Field) zapcore.Core {
	return &slogCore{slog.New(c.log.Handler().WithAttrs(attributes(fields))), c.failed}
}

// ofNoConcern tells whether etcd warns of it at every start: of ports for clients, of which there are none, and of a limit that is meant to be as it is.
func ofNoConcern(message string) bool {
	return message == "Running http and grpc server on single port. This is not recommended for production." || message == "exceeded recommended request limit"
}

// Check implements zapcore.Core.
func (c *slogCore) Check(entry zapcore.Entry, checked *zapcore.CheckedEntry) *zapcore.CheckedEntry {
	if c.Enabled(entry.Level) && !ofNoConcern(entry.Message) {
		return checked.AddCore(entry, c)
	}
	return checked
}

// removedText is what etcd logs when another member has told this one that it is no member any more; there is no other way to learn of that.
const removedText = "the member has been permanently removed from the cluster"

// Write implements zapcore.Core.
func (c *slogCore) Write(entry zapcore.Entry, fields []zapcore.Field) error {
	for _, field := range fields {
		if err, ok := field.Interface.(error); ok && field.Type == zapcore.ErrorType && err.Error() == removedText {
			c.failed.set(store.ErrRemoved)
		}
	}
	level := slog.LevelWarn
	if entry.Level >= zapcore.ErrorLevel {
		level = slog.LevelError
	}
	c.log.LogAttrs(context.Background(), level, entry.Message, attributes(fields)...) //nolint:sloglint // the message is etcd's
	return nil
}

// Sync implements zapcore.Core. A slog.Handler has nothing to flush.
func (c *slogCore) Sync() error { return nil }

// attributes converts the fields of an entry, in their order.
func attributes(fields []zapcore.Field) []slog.Attr {
	encoder := zapcore.NewMapObjectEncoder()
	attrs := make([]slog.Attr, 0, len(fields))
	for _, f := range fields {
		f.AddTo(encoder)
		attrs = append(attrs, slog.Any(f.Key, encoder.Fields[f.Key]))
	}
	return attrs
}
