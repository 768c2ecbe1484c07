// Package daemon is the composition root: it constructs every room from the settings (package config), connects them, runs them and shuts
// them down. It writes the PID file, the engine's ID and the API's sockets.
package daemon

import (
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/shoal-dev/shoal/internal/daemon/config"
)

// Command is the command `shoal daemon` of a binary of a version.
func Command(version string) *cobra.Command {
	var cfg config.Config
	var given []string // flags and their values, for reload
	cmd := &cobra.Command{
		Use:           "shoal daemon [OPTIONS]",
		Short:         "A node of a container cluster",
		SilenceUsage:  true,
		SilenceErrors: true,
		Version:       version,
		Args:          cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := cfg.Load(cmd.Flags()); err != nil {
				return err
			}
			cfg.Version = version
			if cfg.Validate {
				for _, warning := range cfg.Warnings {
					_, _ = fmt.Fprintln(os.Stderr, "warning:", warning)
				}
				_, _ = fmt.Fprintln(os.Stderr, "configuration OK")
				return nil
			}
			hangups := make(chan os.Signal, 1) // from the beginning: one that nobody takes ends the process
			signal.Notify(hangups, syscall.SIGHUP)
			defer signal.Stop(hangups)
			d, err := New(cmd.Context(), cfg)
			if err != nil {
				return err
			}
			d.hangups, d.loadAgain = hangups, func() (config.Config, error) { return loadAgain(given) }
			return d.Run(cmd.Context())
		},
	}
	cfg.Flags(cmd.Flags())
	cmd.PreRun = func(cmd *cobra.Command, _ []string) { given = arguments(cmd.Flags()) }
	return cmd
}

// arguments is the flags that were given, as a command line.
func arguments(f *pflag.FlagSet) []string {
	var out []string
	f.Visit(func(flag *pflag.Flag) {
		if values, ok := flag.Value.(pflag.SliceValue); ok {
			for _, v := range values.GetSlice() {
				out = append(out, "--"+flag.Name+"="+v)
			}
			return
		}
		out = append(out, "--"+flag.Name+"="+flag.Value.String())
	})
	return out
}

// loadAgain reads the settings anew: the same flags, and what the file has now.
func loadAgain(args []string) (config.Config, error) {
	var cfg config.Config
	f := pflag.NewFlagSet("daemon", pflag.ContinueOnError)
	cfg.Flags(f)
	if err := f.Parse(args); err != nil {
		return cfg, err
	}
	return cfg, cfg.Load(f)
}

// newLogger makes the daemon's log, whose level can be changed while it runs.
func newLogger(cfg *config.Config, w io.Writer, level *slog.LevelVar) *slog.Logger {
	level.Set(cfg.Level())
	options := &slog.HandlerOptions{Level: level}
	if cfg.LogFormat == "json" {
		return slog.New(slog.NewJSONHandler(w, options))
	}
	return slog.New(slog.NewTextHandler(w, options))
}
