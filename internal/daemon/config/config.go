// Package config is the daemon's settings: it reads dockerd's flags and the keys of its configuration file, and writes nothing. One table (options.go) has
// all of them, with what becomes of each; flags, keys, warnings and refusals follow from it, and docs/configuration.md is compared with it.
package config

import (
	"fmt"
	"log/slog"
	"net/netip"
	"strings"

	"github.com/shoal-dev/shoal/internal/shoal"
)

// Config is the daemon's settings. The table of options says what each is for.
type Config struct {
	DataRoot string // what outlives a reboot
	ExecRoot string // what does not
	PidFile  string
	File     string // the configuration file
	Validate bool   // only check the settings

	Hosts      []string // "unix:///path", "tcp://host:port", "fd://"
	Group      string   // of the API's unix sockets
	TLS        bool
	TLSVerify  bool
	TLSCACert  string
	TLSCert    string
	TLSKey     string
	HTTPProxy  string
	HTTPSProxy string
	NoProxy    string

	Debug            bool
	LogLevel         string
	LogFormat        string // "text" or "json"
	Labels           []string
	Experimental     bool
	Features         map[string]bool
	LiveRestore      bool // containers run on when the daemon ends
	ShutdownTimeout  int  // seconds that containers have to stop when the daemon ends and they do not run on
	GenericResources []string

	InsecureRegistries []string
	RegistryMirrors    []string
	MaxDownloads       int
	MaxUploads         int
	MaxAttempts        int

	AddressPools       []string // "base=CIDR,size=N"
	DefaultNetworkOpts map[string]map[string]string
	AdvertiseAddr      string // address or interface, for swarm init and join without one
	DNS                []netip.Addr
	DNSOptions         []string
	DNSSearch          []string
	HostGateways       []netip.Addr
	Bridge             Bridge
	DirectRouting      bool   // published ports are reached from outside at containers' own addresses too
	ProbePort          uint16 // UDP, for liveness probes between nodes

	CgroupParent    string // empty for one of the node's own
	DefaultRuntime  string
	Runtimes        map[string]Runtime // by name
	CDISpecDirs     []string
	Ulimits         map[string]shoal.Ulimit
	ShmSize         int64 // bytes; 0 for Docker's default
	IpcMode         string
	CgroupnsMode    string
	Init            bool
	NoNewPrivileges bool
	SeccompProfile  string // a file, "builtin" or "unconfined"
	LogDriver       string
	LogOpts         map[string]string
	Builder         Builder

	Version string // of shoal; no option
	// Warnings is what is wrong with the settings although the daemon starts with them, a sentence each.
	Warnings []string
}

// Bridge is the settings of the default bridge network.
type Bridge struct {
	Name        string // of an interface that is there already; "none" for no such network, empty for docker0
	IP          string // "address/length" of the interface; empty for a subnet of the pools
	IP6         string
	FixedCIDR   string // the range that containers' addresses are from
	FixedCIDRv6 string
	IPv6        bool
	MTU         int // bytes; 0 for the default
	NoICC       bool
	NoMasq      bool
	HostIP      netip.Addr // where ports are published that name no address
}

// NoBridge is the name that turns the default bridge network off.
const NoBridge = "none"

// DefaultHost is where the API is served unless --host names other places.
const DefaultHost = "unix:///var/run/docker.sock"

// Level is the log level that the settings ask for.
func (c *Config) Level() slog.Level {
	if c.Debug {
		return slog.LevelDebug
	}
	level, _ := parseLevel(c.LogLevel) // validated
	return level
}

func parseLevel(name string) (slog.Level, error) {
	switch strings.ToLower(name) {
	case "debug", "trace":
		return slog.LevelDebug, nil
	case "info", "":
		return slog.LevelInfo, nil
	case "warn":
		return slog.LevelWarn, nil
	case "error", "fatal", "panic":
		return slog.LevelError, nil
	default:
		return 0, fmt.Errorf("invalid logging level: %s", name)
	}
}

// EngineLabels is the labels as a map. Constraints refer to them as engine.labels.KEY.
func (c *Config) EngineLabels() map[string]string {
	out := map[string]string{}
	for _, l := range c.Labels {
		k, v, _ := strings.Cut(l, "=")
		out[k] = v
	}
	return out
}
