package daemon

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/spf13/pflag"

	"github.com/shoal-dev/shoal/internal/daemon/config"
	"github.com/shoal-dev/shoal/internal/events"
	"github.com/shoal-dev/shoal/internal/image"
	"github.com/shoal-dev/shoal/internal/registry"
)

// SIGHUP ended the daemon. Also with a file that is bad it goes on, with the settings of before.
func TestReloadTakesOverWhatTheFileHas(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "daemon.json")
	write := func(content string) {
		t.Helper()
		if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(`{"labels": ["a=b"]}`)
	var cfg config.Config
	f := pflag.NewFlagSet("daemon", pflag.ContinueOnError)
	cfg.Flags(f)
	if err := f.Parse([]string{"--config-file", file, "--data-root", dir, "--insecure-registry", "r:5000", "--insecure-registry=s", "--log-opt", "max-size=1m"}); err != nil {
		t.Fatal(err)
	}
	args := arguments(f) // before the file sets some
	if err := cfg.Load(f); err != nil {
		t.Fatal(err)
	}
	d := &Daemon{cfg: cfg, log: slog.New(slog.DiscardHandler), events: &events.Bus{}, registries: registry.New(dir, registry.Settings{}), images: image.New(image.Config{}), loadAgain: func() (config.Config, error) { return loadAgain(args) }}
	write(`{"labels": ["c=d"], "debug": true, "live-restore": false, "shutdown-timeout": 3, "registry-mirrors": ["https://m.example"], "data-root": "/elsewhere", "nosuch": 1}`)
	if err := d.reload(); err == nil {
		t.Fatal("data-root is a flag and a key, but nothing is said of it")
	}
	write(`{"labels": ["c=d"], "debug": true, "live-restore": false, "shutdown-timeout": 3, "registry-mirrors": ["https://m.example"], "pidfile": "/elsewhere", "nosuch": 1}`)
	if err := d.reload(); err != nil {
		t.Fatal(err)
	}
	now := d.settings()
	if now.Labels[0] != "c=d" || !now.Debug || now.LiveRestore || now.ShutdownTimeout != 3 || now.RegistryMirrors[0] != "https://m.example/" || len(now.Warnings) != 1 ||
		len(now.InsecureRegistries) != 2 || now.LogOpts["max-size"] != "1m" || d.level.Level() != slog.LevelDebug {
		t.Errorf("%+v", now)
	}
	if now.PidFile != cfg.PidFile {
		t.Error("what cannot change while the daemon runs has changed")
	}
	var event events.Event
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	_ = d.events.Follow(ctx, time.Unix(1, 0), func(e events.Event) error {
		event = e
		cancel()
		return nil
	})
	if event.Type != "daemon" || event.Action != "reload" || event.Attributes["labels"] != `["c=d"]` || event.Attributes["live-restore"] != "false" ||
		event.Attributes["insecure-registries"] != `["r:5000","s"]` || event.Attributes["shutdown-timeout"] != "3" {
		t.Errorf("%+v", event)
	}
	for _, bad := range []string{"{", `{"labels": ["x"]}`, `{"userns-remap": "default"}`} {
		write(bad)
		if err := d.reload(); err == nil || d.settings().Labels[0] != "c=d" {
			t.Errorf("%s: %v, %+v", bad, err, d.settings())
		}
	}
}
