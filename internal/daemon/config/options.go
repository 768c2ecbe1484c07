package config

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/pflag"
)

// StockRuntime is the OCI runtime that a node always has.
const StockRuntime = "runc"

// option is one of dockerd's settings: a flag, a key of the configuration file, or both. One that has neither ignored nor refused has its effect.
type option struct {
	flag  string // empty for a key of the file alone
	short string
	key   string // empty for the flag's name, "-" for none
	usage string
	binder
	// read keeps the value of a key that has no flag.
	read func(c *Config, raw json.RawMessage) error
	// ignored says why a value other than the default has no effect; the daemon starts, and warns.
	ignored string
	// refused says why a value other than the default is an error.
	refused string
	// reload tells that SIGHUP takes over what the file has.
	reload bool
}

// name is what the option is called in messages: the key of the file, as with dockerd.
func (o *option) name() string {
	if o.key != "" && o.key != "-" {
		return o.key
	}
	return o.flag
}

// changed tells whether the option has a value other than the default.
func (o *option) changed(f *pflag.FlagSet) bool {
	flag := f.Lookup(o.flag)
	return flag.Changed && flag.Value.String() != flag.DefValue
}

const (
	isNftables = "the rules of networks and published ports are made in nftables tables of the node's own, whatever iptables has"
	isEmbedded = "containerd runs inside the daemon"
	noRaft     = "the store of managers has its own times"
)

// options is every setting, in the order of dockerd's own help: those of both platforms, of Linux, of the API.
func options() []option {
	all := commonOptions()
	all = append(all, networkOptions()...)
	all = append(all, containerOptions()...)
	all = append(all, daemonOptions()...)
	return append(all, fileOptions()...)
}

func commonOptions() []option {
	return []option{
		{flag: "registry-mirror", key: "registry-mirrors", usage: "Preferred Docker registry mirror", reload: true, binder: list(func(c *Config) *[]string { return &c.RegistryMirrors })},
		{flag: "insecure-registry", key: "insecure-registries", usage: "Enable insecure registry communication", reload: true, binder: list(func(c *Config) *[]string { return &c.InsecureRegistries })},
		{flag: "allow-nondistributable-artifacts", usage: "Allow push of nondistributable artifacts to registry", binder: unused("list", "", isList),
			ignored: "such artifacts are always pushed"},
		{flag: "max-concurrent-downloads", usage: "Set the max concurrent downloads", reload: true, binder: number(func(c *Config) *int { return &c.MaxDownloads }, 3)},
		{flag: "max-concurrent-uploads", usage: "Set the max concurrent uploads", reload: true, binder: number(func(c *Config) *int { return &c.MaxUploads }, 5)},
		{flag: "max-download-attempts", usage: "Set the max download attempts for each pull", reload: true, binder: number(func(c *Config) *int { return &c.MaxAttempts }, 5)},
		{flag: "storage-driver", short: "s", usage: "Storage driver to use", binder: unused("string", "", isText)}, // see validateStorage
		{flag: "storage-opt", key: "storage-opts", usage: "Storage driver options", binder: each("list", checkStorageOpt, isList)},
		{flag: "data-root", usage: "Root directory of persistent state", binder: text(func(c *Config) *string { return &c.DataRoot }, "/var/lib/shoal")},
		{flag: "exec-root", usage: "Root directory for execution state files", binder: text(func(c *Config) *string { return &c.ExecRoot }, "/run/shoal")},
		{flag: "pidfile", short: "p", usage: "Path to use for daemon PID file", binder: text(func(c *Config) *string { return &c.PidFile }, "/run/shoal.pid")},
		{flag: "containerd", usage: "containerd grpc address", binder: unused("string", "", isText), ignored: isEmbedded},
		{flag: "containerd-namespace", usage: "Containerd namespace to use", binder: unused("string", "moby", isText), ignored: isEmbedded},
		{flag: "containerd-plugins-namespace", usage: "Containerd namespace to use for plugins", binder: unused("string", "plugins.moby", isText), ignored: isEmbedded},
		{flag: "cri-containerd", usage: "start containerd with cri", binder: unused("bool", "false", isBool), refused: "the containerd inside the daemon has no CRI plugin"},
		{flag: "authorization-plugin", key: "authorization-plugins", usage: "Authorization plugins to load", binder: unused("list", "", isList),
			refused: "this engine runs no plugins, and would serve what an authorization plugin denies"},
		{flag: "exec-opt", key: "exec-opts", usage: "Runtime execution options", binder: each("list", checkExecOpt, isList)},
		{flag: "feature", key: "features", usage: "Enable feature in the daemon", reload: true, binder: each("map", parseFeature, isPairs)},
		{flag: "shutdown-timeout", usage: "Set the default shutdown timeout", reload: true, binder: number(func(c *Config) *int { return &c.ShutdownTimeout }, 15)},
		{flag: "swarm-default-advertise-addr", usage: "Set default address or interface for swarm advertised address", binder: text(func(c *Config) *string { return &c.AdvertiseAddr }, "")},
		{flag: "experimental", usage: "Enable experimental features", binder: toggle(func(c *Config) *bool { return &c.Experimental }, false)},
		{flag: "metrics-addr", usage: "Set default address and port to serve the metrics api on", binder: unused("string", "", isText), ignored: "the daemon serves no metrics"},
		{flag: "node-generic-resource", key: "node-generic-resources", usage: "Advertise user-defined resource", binder: list(func(c *Config) *[]string { return &c.GenericResources })},
		{flag: "label", key: "labels", usage: "Set key=value labels to the daemon", reload: true, binder: list(func(c *Config) *[]string { return &c.Labels })},
		{flag: "http-proxy", usage: "HTTP proxy URL to use for outgoing traffic", binder: text(func(c *Config) *string { return &c.HTTPProxy }, "")},
		{flag: "https-proxy", usage: "HTTPS proxy URL to use for outgoing traffic", binder: text(func(c *Config) *string { return &c.HTTPSProxy }, "")},
		{flag: "no-proxy", usage: "Comma-separated list of hosts or IP addresses for which the proxy is skipped", binder: text(func(c *Config) *string { return &c.NoProxy }, "")},
		{flag: "api-cors-header", usage: "Set CORS headers in the Engine API; removed", binder: unused("string", "", isText),
			refused: `the "api-cors-header" config parameter and the dockerd "--api-cors-header" option have been removed; use a reverse proxy if you need CORS headers`},
		{flag: "restart", short: "r", key: "-", usage: "Deprecated in favor of --restart policies on docker run", binder: unused("bool", "true", isBool), ignored: "containers are started again by their own restart policies"},
	}
}

func networkOptions() []option {
	return []option{
		{flag: "bridge", short: "b", usage: "Attach containers to a network bridge", binder: text(func(c *Config) *string { return &c.Bridge.Name }, "")},
		{flag: "bip", usage: "IPv4 address for the default bridge", binder: text(func(c *Config) *string { return &c.Bridge.IP }, "")},
		{flag: "bip6", usage: "IPv6 address for the default bridge", binder: text(func(c *Config) *string { return &c.Bridge.IP6 }, "")},
		{flag: "fixed-cidr", usage: "IPv4 subnet for the default bridge network", binder: text(func(c *Config) *string { return &c.Bridge.FixedCIDR }, "")},
		{flag: "fixed-cidr-v6", usage: "IPv6 subnet for the default bridge network", binder: text(func(c *Config) *string { return &c.Bridge.FixedCIDRv6 }, "")},
		{flag: "ipv6", usage: "Enable IPv6 networking for the default bridge network", binder: toggle(func(c *Config) *bool { return &c.Bridge.IPv6 }, false)},
		{flag: "mtu", usage: `Set the MTU for the default "bridge" network`, binder: number(func(c *Config) *int { return &c.Bridge.MTU }, 1500)},
		{flag: "icc", usage: "Enable inter-container communication for the default bridge network", binder: inverse(func(c *Config) *bool { return &c.Bridge.NoICC })},
		{flag: "ip-masq", usage: "Enable IP masquerading for the default bridge network", binder: inverse(func(c *Config) *bool { return &c.Bridge.NoMasq })},
		{flag: "ip", usage: "Host IP for port publishing from the default bridge network", binder: parsed("ip", "0.0.0.0", func(c *Config, value string) (err error) {
			if c.Bridge.HostIP, err = netip.ParseAddr(value); err != nil {
				return fmt.Errorf("failed to parse IP: %q", value)
			}
			return nil
		}, isText)},
		{flag: "default-gateway", usage: "Default gateway IPv4 address for the default bridge network", binder: unused("ip", "", isText), refused: "the gateway of a bridge network is the node"},
		{flag: "default-gateway-v6", usage: "Default gateway IPv6 address for the default bridge network", binder: unused("ip", "", isText), refused: "the gateway of a bridge network is the node"},
		{flag: "default-address-pool", key: "default-address-pools", usage: "Default address pools for node specific local networks (base=CIDR,size=N)",
			binder: binder{list(func(c *Config) *[]string { return &c.AddressPools }).define, addressPools}},
		{flag: "default-network-opt", key: "default-network-opts", usage: "Default network options", binder: each("map", parseNetworkOpt, networkOpts)},
		{flag: "network-control-plane-mtu", usage: "Network Control plane MTU", binder: unused("int", "1500", isNumber), ignored: "nodes tell each other of networks by TCP"},
		{flag: "network-diagnostic-port", usage: "TCP port number of the network diagnostic server", binder: unused("int", "0", isNumber), ignored: "`shoal doctor` looks at the networks"},
		{flag: "dns", usage: "DNS server to use", binder: addrs(func(c *Config) *[]netip.Addr { return &c.DNS })},
		{flag: "dns-opt", key: "dns-opts", usage: "DNS options to use", binder: list(func(c *Config) *[]string { return &c.DNSOptions })},
		{flag: "dns-search", usage: "DNS search domains to use", binder: list(func(c *Config) *[]string { return &c.DNSSearch })},
		{flag: "host-gateway-ip", key: "host-gateway-ips", usage: "IP addresses that the special 'host-gateway' string in --add-host resolves to. Defaults to the IP addresses of the default bridge",
			binder: addrs(func(c *Config) *[]netip.Addr { return &c.HostGateways })},
		{flag: "iptables", usage: "Enable addition of iptables rules", binder: unused("bool", "true", isBool), ignored: isNftables},
		{flag: "ip6tables", usage: "Enable addition of ip6tables rules", binder: unused("bool", "true", isBool), ignored: isNftables},
		{flag: "ip-forward", usage: "Enable IP forwarding in system configuration", binder: unused("bool", "true", isBool), ignored: "a node with a bridge network forwards"},
		{flag: "ip-forward-no-drop", usage: "Do not set the filter-FORWARD policy to DROP when enabling IP forwarding", binder: unused("bool", "", isBool)}, // it never is
		{flag: "userland-proxy", usage: "Use userland proxy for loopback traffic", binder: unused("bool", "", isBool)},                                      // rules do its work
		{flag: "userland-proxy-path", usage: "Path to the userland proxy binary", binder: unused("string", "", isText), ignored: "rules do the work of the userland proxy"},
		{flag: "allow-direct-routing", usage: "Allow remote access to published ports on container IP addresses", binder: toggle(func(c *Config) *bool { return &c.DirectRouting }, false)},
		{flag: "probe-port", key: "probe-port", usage: "UDP port of the liveness probes between nodes of a swarm", binder: parsed("uint16", "7946", parseProbePort, isNumber)},
	}
}

func containerOptions() []option {
	return []option{
		{flag: "add-runtime", key: "runtimes", usage: "Register an additional OCI compatible runtime", reload: true, binder: each("runtime", parseRuntime, runtimes)},
		{flag: "default-runtime", usage: "Default OCI runtime for containers", reload: true, binder: text(func(c *Config) *string { return &c.DefaultRuntime }, StockRuntime)},
		{flag: "cdi-spec-dir", key: "cdi-spec-dirs", usage: "CDI specification directories to use", binder: list(func(c *Config) *[]string { return &c.CDISpecDirs }),
			ignored: "containers get no devices by CDI"},
		{flag: "cgroup-parent", usage: "Set parent cgroup for all containers", binder: text(func(c *Config) *string { return &c.CgroupParent }, "")},
		{flag: "default-ulimit", key: "default-ulimits", usage: "Default ulimits for containers", binder: each("ulimit", parseUlimit, ulimits)},
		{flag: "default-shm-size", usage: "Default shm size for containers", reload: true, binder: size(func(c *Config) *int64 { return &c.ShmSize }, "64MiB")},
		{flag: "default-ipc-mode", usage: `Default mode for containers ipc ("shareable" | "private")`, reload: true, binder: text(func(c *Config) *string { return &c.IpcMode }, "private")},
		{flag: "default-cgroupns-mode", usage: `Default mode for containers cgroup namespace ("host" | "private")`, reload: true, binder: text(func(c *Config) *string { return &c.CgroupnsMode }, "")},
		{flag: "init", usage: "Run an init in the container to forward signals and reap processes", binder: toggle(func(c *Config) *bool { return &c.Init }, false)},
		{flag: "init-path", usage: "Path to the docker-init binary", binder: unused("string", "", isText), ignored: "the init program is part of the daemon"},
		{flag: "live-restore", usage: "Enable live restore of docker when containers are still running", reload: true, binder: toggle(func(c *Config) *bool { return &c.LiveRestore }, true)},
		{flag: "log-driver", usage: "Default driver for container logs", binder: text(func(c *Config) *string { return &c.LogDriver }, "json-file")},
		{flag: "log-opt", key: "log-opts", usage: "Default log driver options for containers", binder: pairs(func(c *Config) *map[string]string { return &c.LogOpts })},
		{flag: "no-new-privileges", usage: "Set no-new-privileges by default for new containers", binder: toggle(func(c *Config) *bool { return &c.NoNewPrivileges }, false)},
		{flag: "seccomp-profile", usage: `Path to seccomp profile. Set to "unconfined" to disable the default seccomp profile`, binder: text(func(c *Config) *string { return &c.SeccompProfile }, "builtin")},
		{flag: "selinux-enabled", usage: "Enable selinux support", binder: unused("bool", "false", isBool), refused: "this engine gives containers no SELinux labels"},
		{flag: "userns-remap", usage: "User/Group setting for user namespaces", binder: unused("string", "", isText), refused: "this engine does not remap the users of containers: root in them would be root of the host all the same"},
		{flag: "rootless", usage: "Enable rootless mode; typically used with RootlessKit", binder: unused("bool", "false", isBool), refused: "this engine needs root"},
		{flag: "cpu-rt-period", usage: "Limit the CPU real-time period in microseconds for the parent cgroup for all containers", binder: unused("int", "0", isNumber), refused: "this engine gives containers no real-time CPU"},
		{flag: "cpu-rt-runtime", usage: "Limit the CPU real-time runtime in microseconds for the parent cgroup for all containers", binder: unused("int", "0", isNumber), refused: "this engine gives containers no real-time CPU"},
	}
}

func daemonOptions() []option {
	return []option{
		{flag: "host", short: "H", key: "hosts", usage: "Daemon socket(s) to connect to", binder: list(func(c *Config) *[]string { return &c.Hosts })},
		{flag: "group", short: "G", usage: "Group for the unix socket", binder: text(func(c *Config) *string { return &c.Group }, "docker")},
		{flag: "tls", usage: "Use TLS; implied by --tlsverify", binder: toggle(func(c *Config) *bool { return &c.TLS }, false)},
		{flag: "tlsverify", usage: "Use TLS and verify the remote", binder: toggle(func(c *Config) *bool { return &c.TLSVerify }, os.Getenv("DOCKER_TLS_VERIFY") != "")},
		{flag: "tlscacert", usage: "Trust certs signed only by this CA", binder: text(func(c *Config) *string { return &c.TLSCACert }, certFile("ca.pem"))},
		{flag: "tlscert", usage: "Path to TLS certificate file", binder: text(func(c *Config) *string { return &c.TLSCert }, certFile("cert.pem"))},
		{flag: "tlskey", usage: "Path to TLS key file", binder: text(func(c *Config) *string { return &c.TLSKey }, certFile("key.pem"))},
		{flag: "debug", short: "D", usage: "Enable debug mode", reload: true, binder: toggle(func(c *Config) *bool { return &c.Debug }, false)},
		{flag: "log-level", short: "l", usage: `Set the logging level ("debug"|"info"|"warn"|"error"|"fatal")`, binder: text(func(c *Config) *string { return &c.LogLevel }, "info")},
		{flag: "log-format", usage: `Set the logging format ("text"|"json")`, binder: text(func(c *Config) *string { return &c.LogFormat }, "text")},
		{flag: "raw-logs", usage: "Full timestamps without ANSI coloring", binder: unused("bool", "", isBool)}, // they are always so
		{flag: "config-file", key: "-", usage: "Daemon configuration file", binder: text(func(c *Config) *string { return &c.File }, defaultFile())},
		{flag: "validate", key: "-", usage: "Validate daemon configuration and exit", binder: toggle(func(c *Config) *bool { return &c.Validate }, false)},
	}
}

// fileOptions is the keys that have no flag.
func fileOptions() []option {
	return []option{
		{key: "host-gateway-ip", binder: binder{values: isText}}, // the key before there could be two; see readFile
		{key: "proxies", binder: binder{values: isAnything}},     // an object of http-proxy, https-proxy and no-proxy; see flatten
		{key: "builder", binder: binder{values: isAnything}, read: readBuilder},
		{key: "containerd-plugin-namespace", binder: binder{values: isText}, ignored: isEmbedded},
		{key: "default-init", binder: binder{values: isText}, ignored: "the init program is part of the daemon"},
		{key: "deprecated-key-path", binder: binder{values: isText}, ignored: "nodes have no such key"},
		{key: "resolv-conf", binder: binder{values: isText}, ignored: "containers get the name servers of /etc/resolv.conf"},
		{key: "swarm-raft-heartbeat-tick", binder: binder{values: isNumber}, ignored: noRaft},
		{key: "swarm-raft-election-tick", binder: binder{values: isNumber}, ignored: noRaft},
	}
}

// checkExecOpt reads "native.cgroupdriver=cgroupfs".
func checkExecOpt(c *Config, value string) error {
	k, v, ok := strings.Cut(value, "=")
	k, v = strings.ToLower(strings.TrimSpace(k)), strings.TrimSpace(v)
	switch {
	case !ok || k == "" || v == "":
		return fmt.Errorf("invalid exec-opt (%s): must be formatted 'opt=value'", value)
	case k == "isolation":
		return fmt.Errorf("invalid exec-opt (%s): option '%s' is only supported on windows", value, k)
	case k != "native.cgroupdriver":
		return fmt.Errorf("invalid exec-opt (%s): unknown option: '%s'", value, k)
	case v == "systemd":
		c.Warnings = append(c.Warnings, "exec-opts "+value+" has no effect: containers' cgroups are made by the daemon itself (cgroupfs)")
	case v != "cgroupfs":
		return fmt.Errorf("Invalid native.cgroupdriver option %q: 'systemd' or 'cgroupfs' expected", v) //nolint:revive,staticcheck // Docker's words
	}
	return nil
}

// checkStorageOpt refuses limits, which would not hold.
func checkStorageOpt(c *Config, value string) error {
	k, _, ok := strings.Cut(value, "=")
	switch {
	case !ok:
		return fmt.Errorf("unable to parse storage option %q: must be formatted 'opt=value'", value)
	case strings.HasSuffix(k, "size"):
		return fmt.Errorf("storage-opt %s: this engine does not limit the size of a container's file system", value)
	}
	c.Warnings = append(c.Warnings, "storage-opts "+value+" has no effect: the overlayfs snapshotter has no options")
	return nil
}

func parseProbePort(c *Config, value string) error {
	var port uint16
	if _, err := fmt.Sscan(value, &port); err != nil {
		return fmt.Errorf("invalid probe-port: %q", value)
	}
	c.ProbePort = port
	return nil
}

// certFile is where dockerd looks for the files of TLS.
func certFile(name string) string {
	dir := os.Getenv("DOCKER_CERT_PATH")
	if dir == "" {
		dir = os.Getenv("DOCKER_CONFIG")
	}
	if home, err := os.UserHomeDir(); dir == "" && err == nil {
		dir = filepath.Join(home, ".docker")
	}
	return filepath.Join(dir, name)
}
