package config

import (
	"encoding/json"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/spf13/pflag"
)

// load makes a Config of flags and of a file's content; without content there is no file.
func load(t *testing.T, content string, args ...string) (*Config, error) {
	t.Helper()
	c := &Config{}
	f := pflag.NewFlagSet("daemon", pflag.ContinueOnError)
	c.Flags(f)
	if content != "" {
		file := filepath.Join(t.TempDir(), "daemon.json")
		if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		args = append(args, "--config-file", file)
	} else if !slices.Contains(args, "--config-file") {
		if err := f.Lookup("config-file").Value.Set("/nonexistent"); err != nil {
			t.Fatal(err)
		}
	}
	if err := f.Parse(args); err != nil {
		return nil, err
	}
	err := c.Load(f)
	return c, err
}

// flagsOfDockerd is all flags of dockerd 28.5.2.
var flagsOfDockerd = strings.Fields(`add-runtime allow-direct-routing allow-nondistributable-artifacts api-cors-header authorization-plugin bip bip6 bridge
	cdi-spec-dir cgroup-parent config-file containerd containerd-namespace containerd-plugins-namespace cpu-rt-period cpu-rt-runtime cri-containerd data-root
	debug default-address-pool default-cgroupns-mode default-gateway default-gateway-v6 default-ipc-mode default-network-opt default-runtime default-shm-size
	default-ulimit dns dns-opt dns-search exec-opt exec-root experimental feature fixed-cidr fixed-cidr-v6 group host host-gateway-ip http-proxy https-proxy icc
	init init-path insecure-registry ip ip-forward ip-forward-no-drop ip-masq ip6tables iptables ipv6 label live-restore log-driver log-format log-level log-opt
	max-concurrent-downloads max-concurrent-uploads max-download-attempts metrics-addr mtu network-control-plane-mtu network-diagnostic-port no-new-privileges
	no-proxy node-generic-resource pidfile raw-logs registry-mirror restart rootless seccomp-profile selinux-enabled shutdown-timeout storage-driver storage-opt
	swarm-default-advertise-addr tls tlscacert tlscert tlskey tlsverify userland-proxy userland-proxy-path userns-remap validate`)

// keysOfDockerd is the keys of its configuration file that are not named as a flag is.
var keysOfDockerd = strings.Fields(`authorization-plugins builder cdi-spec-dirs containerd-plugin-namespace default-address-pools default-init default-network-opts
	default-ulimits deprecated-key-path dns-opts exec-opts features host-gateway-ips hosts insecure-registries labels log-opts node-generic-resources proxies
	registry-mirrors resolv-conf runtimes storage-opts swarm-raft-election-tick swarm-raft-heartbeat-tick`)

// sample is a value of a flag, and what the file has for it, that differs from the default.
func sample(o *option) (text, inFile string) {
	quoted := func(s string) (string, string) { return s, fmt.Sprintf("%q", s) }
	listed := func(s string) (string, string) { return s, fmt.Sprintf("[%q]", s) }
	switch o.flag {
	case "add-runtime":
		return "other=/bin/other", `{"other":{"path":"/bin/other"}}`
	case "allow-nondistributable-artifacts", "authorization-plugin", "cdi-spec-dir", "insecure-registry", "dns-search", "dns-opt", "host":
		return listed("unix:///a")
	case "bip", "fixed-cidr":
		return quoted("10.9.0.1/24")
	case "bip6", "fixed-cidr-v6":
		return quoted("fd00:9::1/64")
	case "cpu-rt-period", "cpu-rt-runtime", "max-concurrent-downloads", "max-concurrent-uploads", "max-download-attempts", "mtu", "network-control-plane-mtu",
		"network-diagnostic-port", "shutdown-timeout", "probe-port":
		return "9", "9"
	case "default-address-pool":
		return "base=10.0.0.0/8,size=24", `[{"base":"10.0.0.0/8","size":24}]`
	case "default-cgroupns-mode":
		return quoted("host")
	case "default-gateway", "default-gateway-v6", "ip":
		return quoted("10.9.0.1")
	case "default-ipc-mode":
		return quoted("shareable")
	case "default-network-opt":
		return "bridge=a=b=c", `{"bridge":{"a":"b=c"}}`
	case "default-runtime":
		return quoted("io.containerd.runc.v2")
	case "default-shm-size":
		return quoted("1G")
	case "default-ulimit":
		return "nofile=10:20", `{"nofile":{"Name":"nofile","Soft":10,"Hard":20}}`
	case "dns", "host-gateway-ip":
		return listed("10.9.0.1")
	case "exec-opt":
		return listed("native.cgroupdriver=systemd")
	case "feature":
		return "buildkit=false", `{"buildkit":false}`
	case "label", "node-generic-resource":
		return listed("a=b")
	case "log-format":
		return quoted("json")
	case "log-level":
		return quoted("warn")
	case "log-opt":
		return "a=b", `{"a":"b"}`
	case "registry-mirror":
		return listed("https://mirror.example/")
	case "storage-driver":
		return quoted("overlay2")
	case "storage-opt":
		return listed("overlay2.override_kernel_check=true")
	}
	if o.flag == "" {
		return "", map[string]string{"proxies": `{"http-proxy":"http://p"}`, "builder": `{"gc":{"enabled":false}}`, "host-gateway-ip": `"10.9.0.1"`,
			"swarm-raft-heartbeat-tick": "1", "swarm-raft-election-tick": "10"}[o.key] + map[bool]string{true: `"x"`}[slices.Contains([]string{
			"containerd-plugin-namespace", "default-init", "deprecated-key-path", "resolv-conf"}, o.key)]
	}
	f := pflag.NewFlagSet("", pflag.ContinueOnError)
	o.define(f, &Config{}, o)
	if v := f.Lookup(o.flag); v.Value.Type() == "bool" {
		other := fmt.Sprint(v.DefValue != "true")
		return other, other
	}
	return quoted("/x")
}

// silent is the options that have what they ask for whatever they say.
var silent = []string{"storage-driver", "ip-forward-no-drop", "userland-proxy", "raw-logs"}

// Of about ninety flags of dockerd the daemon had nineteen, and any other, or key of daemon.json, stopped its start. Every one is now honoured, accepted with
// a warning, or refused in words, alike as a flag and as a key.
func TestEveryFlagAndKeyOfDockerdIsAnswered(t *testing.T) {
	all := options()
	for _, name := range flagsOfDockerd {
		if !slices.ContainsFunc(all, func(o option) bool { return o.flag == name }) {
			t.Errorf("there is no flag --%s", name)
		}
	}
	for _, key := range keysOfDockerd {
		if !slices.ContainsFunc(all, func(o option) bool { return o.name() == key }) {
			t.Errorf("there is no key %q", key)
		}
	}
	for _, o := range all {
		text, inFile := sample(&o)
		if o.flag != "" && o.flag != "config-file" {
			args := []string{"--" + o.flag + "=" + text}
			c, err := load(t, "", args...)
			before, _ := load(t, "")
			checkOutcome(t, &o, strings.Join(args, " "), before, c, err)
		}
		if o.key != "-" {
			content := fmt.Sprintf("{%q: %s}", o.name(), inFile)
			c, err := load(t, content)
			before, _ := load(t, "{}")
			if c != nil && before != nil {
				c.File, before.File = "", ""
			}
			checkOutcome(t, &o, content, before, c, err)
			// What is of another kind is refused.
			if o.name() == "builder" || o.flag == "allow-nondistributable-artifacts" {
				continue
			}
			if _, err := load(t, fmt.Sprintf("{%q: [{}]}", o.name())); err == nil {
				t.Errorf("%s: a list of objects is accepted", o.name())
			}
		}
	}
}

func checkOutcome(t *testing.T, o *option, given string, before, c *Config, err error) {
	t.Helper()
	switch {
	case o.refused != "":
		if err == nil || !strings.Contains(err.Error(), o.refused) {
			t.Errorf("%s: %v", given, err)
		}
	case err != nil:
		t.Errorf("%s: %v", given, err)
	case o.ignored != "":
		if len(c.Warnings) != 1 || !strings.Contains(c.Warnings[0], o.name()+" has no effect: "+o.ignored) {
			t.Errorf("%s: %q", given, c.Warnings)
		}
	case slices.Contains(silent, o.flag):
		if len(c.Warnings) > 0 {
			t.Errorf("%s: %q", given, c.Warnings)
		}
	case reflect.DeepEqual(before, c):
		t.Errorf("%s changes nothing", given)
	}
}

func TestSettingsAreReadAndChecked(t *testing.T) {
	for _, c := range []struct {
		content string
		args    []string
		want    string // a part of the error; empty for none
	}{
		{" \n", nil, ""},
		{"\xef\xbb\xbf{}", nil, ""},
		{"", []string{"--config-file", "/dev/null"}, ""},
		{"", []string{"--config-file", "/nonexistent/x"}, "unable to configure the Docker daemon with file /nonexistent/x: open /nonexistent/x: no such file or directory"},
		{"{", nil, "unexpected end of JSON input"},
		{`{"debug":true}`, []string{"--debug=false"}, "the following directives are specified both as a flag and in the configuration file: debug: (from flag: false, from file: true)"},
		{`{"labels":["a=b"]}`, []string{"--label", "c=d"}, "labels: (from flag: [c=d], from file: [a=b])"},
		{`{"log-opts":{"max-size":"1m"}}`, []string{"--log-opt", "a=b"}, "log-opts: (from flag: [a=b], from file: map[max-size:1m])"},
		{`{"proxies":{"http-proxy":"http://u:p@h"}}`, []string{"--http-proxy", "http://x:y@z"}, "http-proxy: (from flag: http://xxxxx:xxxxx@z, from file: http://xxxxx:xxxxx@h)"},
		{`{"runtimes":{"a":{"path":"/a"}}}`, []string{"--add-runtime", "b=/b"}, ""},
		{`{"host-gateway-ip":"10.0.0.1","host-gateway-ips":["10.0.0.2"]}`, nil, "host-gateway-ip and host-gateway-ips must not both be specified in the config file"},
		{`{"labels":["a"]}`, nil, "bad attribute format: a"},
		{`{"labels":["com.docker.a=b"]}`, nil, "are reserved for internal use"},
		{`{"labels":["a=b","a=c"]}`, nil, "conflict labels for a=c and a=b"},
		{`{"labels":["a=b","a=b"]}`, nil, ""},
		{"", []string{"--log-level=loud"}, "invalid logging level: loud"},
		{"", []string{"--log-format=xml"}, "invalid log format: xml"},
		{"", []string{"--mtu=-1"}, "invalid default MTU: -1"},
		{"", []string{"--registry-mirror=mirror.example"}, `invalid mirror: no scheme specified for "mirror.example": must use either 'https://' or 'http://'`},
		{"", []string{"--exec-opt=a=b"}, "invalid exec-opt (a=b): unknown option: 'a'"},
		{"", []string{"--exec-opt=native.cgroupdriver=cgroupfs"}, ""},
		{"", []string{"--default-ipc-mode=host"}, `IPC mode "host" is not supported as default value; use "shareable" or "private"`},
		{"", []string{"--default-ipc-mode=x"}, `default IPC mode setting (x) is invalid; use "shareable" or "private"`},
		{"", []string{"--default-cgroupns-mode=x"}, `invalid default cgroup namespace (x): use "host" or "private"`},
		{"", []string{"--default-runtime=x"}, "specified default runtime 'x' does not exist"},
		{"", []string{"--add-runtime=x=/x", "--default-runtime=x"}, ""},
		{`{"runtimes":{"x":{}}}`, nil, "runtime x: either a runtimeType or a path must be configured"},
		{`{"runtimes":{"x":{"path":"/x","runtimeType":"y"}}}`, nil, "runtime x: cannot configure both path and runtimeType for the same runtime"},
		{`{"runtimes":{"x":{"path":"/x","options":{"a":1}}}}`, nil, "runtime x: options cannot be used with a path runtime"},
		{`{"runtimes":{"x":{"runtimeType":"y","runtimeArgs":["a"]}}}`, nil, "runtime x: args cannot be used with a runtimeType runtime"},
		{`{"runtimes":{"x":{"runtimeType":"io.containerd.runc.v2","options":{"BinaryName":"/x"}}}}`, nil, ""},
		{`{"builder":{"gc":{"defaultKeepStorage":"much"}}}`, nil, "failed to parse default reservedSpace"},
		{`{"builder":{"gc":{"policy":[{"maxUsedSpace":"much"}]}}}`, nil, "failed to parse maxUsedSpace"},
		{`{"features":{"buildkit":false,"containerd-snapshotter":true}}`, nil, ""},
		{"", []string{"--add-runtime=runc=/x"}, "runtime name 'runc' is reserved"},
		{"", []string{"--bip=10.0.0.1/24", "-b", "br0"}, "You specified -b & --bip, mutually exclusive options. Please specify only one"},
		{"", []string{"--bip=10.0.0.1"}, "invalid bip: invalid CIDR address: 10.0.0.1"},
		{"", []string{"--storage-opt=overlay2.size=1G"}, "does not limit the size"},
		{"", []string{"--storage-driver=btrfs"}, "driver not supported: btrfs"},
		{"", []string{"--iptables=true", "--selinux-enabled=false", "--userns-remap="}, ""},
	} {
		got, err := load(t, c.content, c.args...)
		if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%q %q: %v, want %q", c.content, c.args, err, c.want)
		}
		if err == nil && len(got.Warnings) > 0 {
			t.Errorf("%q %q: warnings %q", c.content, c.args, got.Warnings)
		}
	}
}

// Of the cache of builds and of other runtimes the file had no effect.
func TestTheBuilderAndRuntimesOfTheFile(t *testing.T) {
	c, err := load(t, `{"builder": {"gc": {"defaultKeepStorage": "20GB", "policy": [{"keepStorage": "10GB", "filter": ["unused-for=2200h"]}, {"all": true, "maxUsedSpace": "1GB", "filter": {"type": {"regular": true}}}]}},
		"runtimes": {"a": {"path": "/a", "runtimeArgs": ["-x", "y z"]}, "b": {"runtimeType": "io.containerd.runc.v2", "options": {"BinaryName": "/b"}}, "c": {"runtimeType": "io.containerd.kata.v2"}},
		"features": {"cdi": true, "containerd-snapshotter": false}}`)
	if err != nil {
		t.Fatal(err)
	}
	const gib = 1 << 30
	if want := (Builder{Reserved: 20 * gib, Rules: []BuilderRule{
		{Reserved: 10 * gib, KeepFor: 2200 * time.Hour}, {All: true, MaxUsed: gib, Filter: []string{"type==regular"}},
	}}); !reflect.DeepEqual(c.Builder, want) {
		t.Errorf("the builder's settings are %+v", c.Builder)
	}
	if want := map[string]Runtime{"a": {Path: "/a", Args: []string{"-x", "y z"}}, "b": {Path: "/b"}}; !reflect.DeepEqual(c.Runtimes, want) {
		t.Errorf("the runtimes are %+v", c.Runtimes)
	}
	for _, part := range []string{"runtimes c has no effect", "features cdi=true has no effect", "features containerd-snapshotter=false has no effect"} {
		if !slices.ContainsFunc(c.Warnings, func(w string) bool { return strings.Contains(w, part) }) {
			t.Errorf("no warning %q in %q", part, c.Warnings)
		}
	}
}

// A key of daemon.json that is of a newer Docker, or misspelt, kept the node down.
func TestAnUnknownKeyIsAWarning(t *testing.T) {
	c, err := load(t, `{"no-such-key": 1, "debug": true, "another": {}}`)
	if err != nil || !c.Debug || len(c.Warnings) != 1 || !strings.Contains(c.Warnings[0], "don't match any configuration option, and have no effect: another, no-such-key") {
		t.Errorf("%v %q", err, c.Warnings)
	}
}

// --tls alone let everybody in who could reach the port; dockerd asks for certificates unless told otherwise.
func TestTLSVerifiesUnlessToldOtherwise(t *testing.T) {
	for _, c := range []struct {
		args        []string
		tls, verify bool
	}{
		{nil, false, false}, {[]string{"--tls"}, true, true}, {[]string{"--tlsverify"}, true, true}, {[]string{"--tlsverify=false"}, true, false}, {[]string{"--tls", "--tlsverify=false"}, true, false},
	} {
		if got, err := load(t, "", c.args...); err != nil || got.TLS != c.tls || got.TLSVerify != c.verify {
			t.Errorf("%q: %t %t %v", c.args, got.TLS, got.TLSVerify, err)
		}
	}
}

func TestLevels(t *testing.T) {
	for name, want := range map[string]slog.Level{"debug": slog.LevelDebug, "info": slog.LevelInfo, "warn": slog.LevelWarn, "fatal": slog.LevelError} {
		if got, err := load(t, "", "-l", name); err != nil || got.Level() != want {
			t.Errorf("%s: %v %v", name, got.Level(), err)
		}
	}
}

var update = flag.Bool("update", false, "write the table of docs/configuration.md")

// docs/configuration.md has the table of options as the code has it; `go test ./internal/daemon/config -update` writes it.
func TestThePageHasTheTable(t *testing.T) {
	const page, begin = "../../../docs/configuration.md", "| flag | key | outcome |\n| --- | --- | --- |\n"
	var rows strings.Builder
	for _, o := range options() {
		flag, key, outcome := "", "`"+o.name()+"`", "done"
		if o.flag != "" {
			flag = "`--" + o.flag + "`"
		}
		if o.key == "-" {
			key = ""
		}
		switch {
		case o.refused != "":
			outcome = "refused: " + o.refused
		case o.ignored != "":
			outcome = "warning: " + o.ignored
		case o.reload:
			outcome = "done, also by SIGHUP"
		}
		fmt.Fprintf(&rows, "| %s | %s | %s |\n", flag, key, outcome)
	}
	content, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	before, _, ok := strings.Cut(string(content), begin)
	want := before + begin + rows.String()
	if ok && *update {
		err = os.WriteFile(page, []byte(want), 0o600)
	}
	if err != nil || !ok || !*update && string(content) != want {
		t.Errorf("the table of %s differs from the code's (%v): run `go test ./internal/daemon/config -update`", page, err)
	}
}

func FuzzFile(f *testing.F) {
	for _, o := range options() {
		_, inFile := sample(&o)
		f.Add([]byte(fmt.Sprintf("{%q: %s}", o.name(), inFile)))
	}
	f.Fuzz(func(t *testing.T, content []byte) {
		if len(content) > 0 && json.Valid(content) {
			_, _ = load(t, string(content))
		}
	})
}
