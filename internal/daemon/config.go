// Package daemon is the composition root: it reads the configuration, constructs every room, connects them, runs them and shuts
// them down. It writes the PID file, the engine's ID and the API's sockets.
package daemon

import (
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// Config is the daemon's settings, from dockerd's flags and configuration file. The method flags says what each is for.
type Config struct {
	DataRoot           string // what outlives a reboot
	ExecRoot           string // what does not
	PidFile            string
	Hosts              []string // "unix:///path", "tcp://host:port"
	Debug              bool
	LogLevel           string
	Labels             []string // "key=value"
	InsecureRegistries []string
	AddressPools       []string // "base=CIDR,size=N"
	CgroupParent       string   // empty for one of the node's own
	Group              string
	MTU                int // bytes; 0 is that of the host's interface
	TLS                bool
	TLSVerify          bool
	TLSCACert          string
	TLSCert            string
	TLSKey             string
	ConfigFile         string
	Version            string
	ProbePort          uint16 // UDP, for liveness probes between nodes
}

// DefaultHost is where the API is served unless --host names other places.
const DefaultHost = "unix:///var/run/docker.sock"

// flags binds the configuration to dockerd's flags.
func (c *Config) flags(f *pflag.FlagSet) {
	f.StringVar(&c.DataRoot, "data-root", "/var/lib/shoal", "Root directory of persistent state")
	f.StringVar(&c.ExecRoot, "exec-root", "/run/shoal", "Root directory for execution state files")
	f.StringVarP(&c.PidFile, "pidfile", "p", "/run/shoal.pid", "Path to use for daemon PID file")
	f.StringArrayVarP(&c.Hosts, "host", "H", nil, "Daemon socket(s) to connect to")
	f.BoolVarP(&c.Debug, "debug", "D", false, "Enable debug mode")
	f.StringVarP(&c.LogLevel, "log-level", "l", "info", `Set the logging level ("debug"|"info"|"warn"|"error"|"fatal")`)
	f.StringArrayVar(&c.Labels, "label", nil, "Set key=value labels to the daemon")
	f.StringArrayVar(&c.InsecureRegistries, "insecure-registry", nil, "Enable insecure registry communication")
	f.StringArrayVar(&c.AddressPools, "default-address-pool", nil, "Default address pools for node specific local networks (base=CIDR,size=N)")
	f.StringVar(&c.CgroupParent, "cgroup-parent", "", "Set parent cgroup for all containers")
	f.StringVarP(&c.Group, "group", "G", "docker", "Group for the unix socket")
	f.IntVar(&c.MTU, "mtu", 0, "Set the MTU for the default bridge network (0: as the host's)")
	f.BoolVar(&c.TLS, "tls", false, "Use TLS; implied by --tlsverify")
	f.BoolVar(&c.TLSVerify, "tlsverify", false, "Use TLS and verify the remote")
	f.StringVar(&c.TLSCACert, "tlscacert", "", "Trust certs signed only by this CA")
	f.StringVar(&c.TLSCert, "tlscert", "", "Path to TLS certificate file")
	f.StringVar(&c.TLSKey, "tlskey", "", "Path to TLS key file")
	f.StringVar(&c.ConfigFile, "config-file", "/etc/shoal/daemon.json", "Daemon configuration file")
	f.Uint16Var(&c.ProbePort, "probe-port", 7946, "UDP port of the liveness probes between nodes")
}

// Command is the command `shoal daemon` of a binary of a version.
func Command(version string) *cobra.Command {
	c := Config{Version: version}
	cmd := &cobra.Command{
		Use:           "shoal daemon [OPTIONS]",
		Short:         "A node of a container cluster",
		SilenceUsage:  true,
		SilenceErrors: true,
		Version:       version,
		Args:          cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := c.readFile(cmd.Flags()); err != nil {
				return err
			}
			if err := c.complete(); err != nil {
				return err
			}
			d, err := New(cmd.Context(), c)
			if err != nil {
				return err
			}
			return d.Run(cmd.Context())
		},
	}
	c.flags(cmd.Flags())
	return cmd
}

// readFile applies the configuration file. A setting given both there and as a flag is an error, as with dockerd.
func (c *Config) readFile(f *pflag.FlagSet) error {
	text, err := os.ReadFile(c.ConfigFile)
	if errors.Is(err, os.ErrNotExist) && !f.Changed("config-file") {
		return nil
	}
	if err != nil {
		return fmt.Errorf("unable to configure the Docker daemon with file %s: %w", c.ConfigFile, err)
	}
	var settings map[string]json.RawMessage
	if err := json.Unmarshal(text, &settings); err != nil {
		return fmt.Errorf("unable to configure the Docker daemon with file %s: %w", c.ConfigFile, err)
	}
	var unknown, twice []string
	for key, raw := range settings {
		flag := f.Lookup(flagOf(key))
		if flag == nil {
			unknown = append(unknown, key)
			continue
		}
		if flag.Changed {
			twice = append(twice, key)
			continue
		}
		if err := setFlag(f, flag.Name, raw); err != nil {
			return fmt.Errorf("unable to configure the Docker daemon with file %s: %s: %w", c.ConfigFile, key, err)
		}
	}
	if len(unknown) > 0 {
		slices.Sort(unknown)
		return fmt.Errorf("unable to configure the Docker daemon with file %s: the following directives don't match any configuration option: %s", c.ConfigFile, strings.Join(unknown, ", "))
	}
	if len(twice) > 0 {
		slices.Sort(twice)
		return fmt.Errorf("unable to configure the Docker daemon with file %s: the following directives are specified both as a flag and in the configuration file: %s", c.ConfigFile, strings.Join(twice, ", "))
	}
	return nil
}

// flagOf is the name of the flag that a key of the configuration file stands for. Keys of lists are plural, flags singular.
func flagOf(key string) string {
	switch key {
	case "hosts", "labels", "default-address-pools":
		return strings.TrimSuffix(key, "s")
	case "insecure-registries":
		return "insecure-registry"
	default:
		return key
	}
}

// addressPool is an element of "default-address-pools".
type addressPool struct {
	Base string `json:"base"`
	Size int    `json:"size"`
}

// setFlag sets a flag from the JSON value that the configuration file has for it.
func setFlag(f *pflag.FlagSet, name string, raw json.RawMessage) error {
	if name == "default-address-pool" {
		var pools []addressPool
		if err := json.Unmarshal(raw, &pools); err != nil {
			return err
		}
		for _, p := range pools {
			if err := f.Set(name, fmt.Sprintf("base=%s,size=%d", p.Base, p.Size)); err != nil {
				return err
			}
		}
		return nil
	}
	var list []string
	if json.Unmarshal(raw, &list) == nil {
		for _, v := range list {
			if err := f.Set(name, v); err != nil {
				return err
			}
		}
		return nil
	}
	var text string
	if json.Unmarshal(raw, &text) == nil {
		return f.Set(name, text)
	}
	return f.Set(name, string(raw)) // numbers and booleans are written alike in JSON and in flags
}

// complete fills in the default host, makes paths absolute and checks values.
func (c *Config) complete() error {
	if len(c.Hosts) == 0 {
		c.Hosts = []string{DefaultHost}
	}
	for _, path := range []*string{&c.DataRoot, &c.ExecRoot, &c.PidFile} {
		abs, err := filepath.Abs(*path)
		if err != nil {
			return err
		}
		*path = abs
	}
	for _, l := range c.Labels {
		if k, _, ok := strings.Cut(l, "="); !ok || k == "" {
			return fmt.Errorf("bad attribute format: %s", l)
		}
	}
	if _, err := c.level(); err != nil {
		return err
	}
	return nil
}

// level is the log level that the settings ask for.
func (c *Config) level() (slog.Level, error) {
	if c.Debug {
		return slog.LevelDebug, nil
	}
	switch c.LogLevel {
	case "debug":
		return slog.LevelDebug, nil
	case "info":
		return slog.LevelInfo, nil
	case "warn":
		return slog.LevelWarn, nil
	case "error", "fatal":
		return slog.LevelError, nil
	default:
		return 0, fmt.Errorf("invalid logging level: %s", c.LogLevel)
	}
}

// engineLabels is the labels as a map. Constraints refer to them as engine.labels.KEY.
func (c *Config) engineLabels() map[string]string {
	out := map[string]string{}
	for _, l := range c.Labels {
		k, v, _ := strings.Cut(l, "=")
		out[k] = v
	}
	return out
}
