package engine

import (
	"encoding"
	"encoding/json"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"reflect"
	"slices"
	"strings"
	"testing"

	apicontainer "github.com/moby/moby/api/types/container"

	"github.com/shoal-dev/shoal/internal/container"
)

// fieldPaths is the paths of a type's fields in JSON, down to what is no struct: "HostConfig.Memory".
func fieldPaths(t reflect.Type, at string, to map[string]bool) {
	for t.Kind() == reflect.Pointer || t.Kind() == reflect.Slice || t.Kind() == reflect.Map {
		if t.Kind() == reflect.Map && t.Elem().Kind() == reflect.Struct && t.Elem().NumField() == 0 {
			break // a set
		}
		t = t.Elem()
	}
	isText := reflect.PointerTo(t).Implements(reflect.TypeFor[encoding.TextMarshaler]())
	if t.Kind() != reflect.Struct || isText || t.NumField() == 0 {
		to[at] = true
		return
	}
	for f := range t.Fields() {
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		switch {
		case !f.IsExported() || name == "-":
		case f.Anonymous && name == "":
			fieldPaths(f.Type, at, to)
		default:
			if name == "" {
				name = f.Name
			}
			fieldPaths(f.Type, strings.TrimPrefix(at+"."+name, "."), to)
		}
	}
}

// refused is the fields of a request for a container that are refused, by a value and the words of the refusal.
func refused() map[string][2]string {
	return map[string][2]string{
		"HostConfig.Cgroup":             {`"container:x"`, "the cgroup of another container: not supported by this engine"},
		"HostConfig.CpuRealtimePeriod":  {`1`, "Your kernel does not support CPU real-time scheduler"},
		"HostConfig.CpuRealtimeRuntime": {`1`, "Your kernel does not support CPU real-time scheduler"},
		"HostConfig.IOMaximumBandwidth": {`1`, "Invalid QoS settings: linux does not support Maximum IO Bandwidth or Maximum IO IOps"},
		"HostConfig.IOMaximumIOps":      {`1`, "Invalid QoS settings: linux does not support Maximum IO Bandwidth or Maximum IO IOps"},
		"HostConfig.Isolation":          {`"hyperv"`, "invalid isolation 'hyperv' on linux"},
	}
}

// refusedWhole is likewise, of fields that have fields of their own, none of which is taken.
func refusedWhole() map[string][2]string {
	return map[string][2]string{
		"HostConfig.DeviceRequests": {`[{"Driver":"x"}]`, `could not select device driver "x" with capabilities: []`},
		"HostConfig.StorageOpt":     {`{"size":"1G"}`, "storage options: not supported by this engine"},
	}
}

// honoured is the fields that have the effect that they have in Docker, by the test that shows it. A field stands for those within.
func honoured() map[string][]string {
	return map[string][]string{
		"TestDockerCLI": {
			"Hostname", "User", "Tty", "OpenStdin", "StdinOnce", "AttachStdin", "AttachStdout", "AttachStderr", "Cmd", "Image", "WorkingDir", "Labels", "ExposedPorts",
			"HostConfig.Binds", "HostConfig.NetworkMode", "HostConfig.PortBindings", "HostConfig.AutoRemove", "HostConfig.CapDrop", "HostConfig.ReadonlyRootfs",
			"HostConfig.Tmpfs", "HostConfig.NanoCpus", "HostConfig.Init", "HostConfig.ContainerIDFile",
		},
		"TestInspectShowsWhatTheContainerWasGiven": {
			"Env", "HostConfig.Memory", "HostConfig.MemorySwap", "HostConfig.Annotations", "HostConfig.LogConfig", "HostConfig.CpuQuota", "HostConfig.CpuPeriod", "HostConfig.PidsLimit",
			"HostConfig.RestartPolicy", "HostConfig.Runtime", "NetworkingConfig.EndpointsConfig.Aliases", "NetworkingConfig.EndpointsConfig.MacAddress",
			"NetworkingConfig.EndpointsConfig.IPAMConfig.IPv4Address",
		},
		"TestFieldsOfTheProcess": {"StopSignal", "Domainname", "NetworkDisabled", "HostConfig.Umask", "HostConfig.ConsoleSize", "HostConfig.GroupAdd", "HostConfig.Ulimits", "HostConfig.OomScoreAdj", "HostConfig.ShmSize", "HostConfig.Sysctls", "HostConfig.CapAdd", "HostConfig.SecurityOpt", "HostConfig.Privileged", "Entrypoint", "HostConfig.PidMode", "HostConfig.UTSMode", "HostConfig.CpusetCpus", "HostConfig.CpusetMems", "HostConfig.Devices", "Volumes",
			"HostConfig.Mounts.Type", "HostConfig.Mounts.Source", "HostConfig.Mounts.Target", "HostConfig.Mounts.ReadOnly", "HostConfig.Mounts.TmpfsOptions"},
		"TestOptionsOfEndpoints": {"NetworkingConfig.EndpointsConfig.DriverOpts", "NetworkingConfig.EndpointsConfig.GwPriority",
			"NetworkingConfig.EndpointsConfig.IPAMConfig.LinkLocalIPs"},
		"TestNamesOfLinksAndHostnames":                {"NetworkingConfig.EndpointsConfig.Links"},
		"TestLocalNetworkWithIPv6":                    {"NetworkingConfig.EndpointsConfig.IPAMConfig.IPv6Address"},
		"TestDevicesAndLimits":                        {"StopTimeout", "HostConfig.DeviceCgroupRules", "HostConfig.VolumeDriver"},
		"TestNamespacesOfOthers":                      {"HostConfig.IpcMode", "HostConfig.CgroupnsMode", "HostConfig.UsernsMode"},
		"TestSwappinessIsSetWhereTheKernelHasIt":      {"HostConfig.MemorySwappiness"},
		"TestSmallEndpointsDoWhatDockerDoes":          {"HostConfig.Links"},
		"TestWarningsAreThoseOfDocker":                {"HostConfig.CpuPercent"},
		"TestHealthIsFollowed":                        {"Healthcheck"},
		"TestInvalidRequestsAreRefusedInDockersWords": {"HostConfig.OomKillDisable", "HostConfig.VolumesFrom"},
	}
}

// ofWindows is the fields that mean nothing on Linux; dockerd takes them without a word.
func ofWindows() []string { return []string{"ArgsEscaped", "HostConfig.CpuCount"} }

// owed is the fields that are taken and shown, and whose effect is missing, in part at least, or which no test shows yet. The list is to become empty.
func owed() []string {
	return []string{
		"HostConfig.BlkioWeightDevice", "HostConfig.BlkioDeviceReadBps", "HostConfig.BlkioDeviceWriteBps", "HostConfig.BlkioDeviceReadIOps", "HostConfig.BlkioDeviceWriteIOps",
		"HostConfig.MaskedPaths", "HostConfig.ReadonlyPaths", "Shell", "OnBuild", "HostConfig.PublishAllPorts", "HostConfig.CgroupParent",
		"HostConfig.Dns", "HostConfig.DnsOptions", "HostConfig.DnsSearch", "HostConfig.ExtraHosts", "HostConfig.BlkioWeight", "HostConfig.CpuShares", "HostConfig.MemoryReservation", "HostConfig.Mounts",
	}
}

// filledIn is the fields that only the engine fills in, and that requests have because they are of the same type as answers. As dockerd does, it takes them without a word.
func filledIn() []string {
	var out []string
	for _, name := range []string{"NetworkID", "EndpointID", "Gateway", "IPAddress", "IPPrefixLen", "IPv6Gateway", "GlobalIPv6Address", "GlobalIPv6PrefixLen", "DNSNames"} {
		out = append(out, "NetworkingConfig.EndpointsConfig."+name)
	}
	return out
}

// A field of a request for a container that has neither an effect nor a refusal is silently ignored: none may be, and a new version of the API must not bring one unnoticed.
func TestNoFieldOfAContainerIsSilentlyIgnored(t *testing.T) {
	fields := map[string]bool{}
	fieldPaths(reflect.TypeFor[apicontainer.CreateRequest](), "", fields)
	covers := func(path string) func(string) bool {
		return func(known string) bool { return known == path || strings.HasPrefix(path, known+".") }
	}
	var known []string
	for test, paths := range honoured() {
		if out, err := exec.CommandContext(t.Context(), "grep", "-rlE", "func "+test+`\(`, "--include=*_test.go", "../../../internal", "../../../test").Output(); err != nil || len(out) == 0 {
			t.Errorf("there is no %s", test)
		}
		known = append(known, paths...)
	}
	whole, single := refusedWhole(), refused()
	known = slices.Concat(known, ofWindows(), filledIn(), slices.Collect(maps.Keys(whole)), slices.Collect(maps.Keys(single)))
	for path := range fields {
		if !slices.ContainsFunc(known, covers(path)) && !slices.ContainsFunc(owed(), covers(path)) {
			t.Errorf("%s is neither honoured nor refused", path)
		}
	}
	for _, path := range slices.Concat(known, owed()) {
		if !slices.ContainsFunc(slices.Collect(maps.Keys(fields)), func(f string) bool { return covers(f)(path) }) {
			t.Errorf("there is no field %s", path)
		}
	}
	for _, refusals := range []map[string][2]string{whole, single} {
		for path, c := range refusals {
			name := strings.TrimPrefix(path, "HostConfig.")
			r := httptest.NewRequest(http.MethodPost, "/", strings.NewReader(`{"Image":"i","HostConfig":{"`+name+`":`+c[0]+`}}`))
			r.Header.Set("Content-Type", "application/json")
			if _, _, err := readCreateRequest(r, container.New(container.Config{})); err == nil || err.Error() != c[1] {
				t.Errorf("%s: %v, want %s", path, err, c[1])
			}
		}
	}
}

func TestFieldsOfTheProcess(t *testing.T) {
	h := newBusyboxHost(t)
	for _, c := range []struct{ args, command, want string }{
		{"--domainname example.org -h box", "cat /proc/sys/kernel/domainname", "example.org"},
		{"--group-add 55", "id -G", "0 55"},
		{"--ulimit nofile=77:78", "ulimit -n", "77"},
		{"--oom-score-adj 123", "cat /proc/self/oom_score_adj", "123"},
		{"--shm-size 1m", "df -k /dev/shm", " 1024 "},
		{"--sysctl net.ipv4.ip_default_ttl=33", "cat /proc/sys/net/ipv4/ip_default_ttl", "33"},
		{"--cap-drop ALL --cap-add CHOWN", "grep CapEff /proc/self/status", "0000000000000001"},
		{"--security-opt no-new-privileges", "grep NoNewPrivs /proc/self/status", "1"},
		{"--privileged", "ls /dev/mem /dev/kmsg", "/dev/kmsg"},
		{"--pid host", "test -d /proc/" + pid() + " && echo there", "there"},
		{"--uts host", "hostname", hostname(t)},
		{"--cpuset-cpus 0", "grep Cpus_allowed_list /proc/self/status", "\t0\n"},
		{"--cpuset-mems 0", "grep Mems_allowed_list /proc/self/status", "\t0\n"},
		{"--device /dev/null:/dev/mine", "ls /dev/mine", "/dev/mine"},
		{"-v /anonymous", "mount", " /anonymous "},
		{"--mount type=tmpfs,target=/mine,tmpfs-size=1m", "df -k /mine", " 1024 "},
		{"--mount type=volume,source=named,target=/mine,readonly", "mount", " /mine "},
		{"--entrypoint /bin/echo", "said", "-c said"},
	} {
		args := slices.Concat([]string{"run", "--rm"}, strings.Fields(c.args), []string{"busybox", "sh", "-c", c.command})
		if strings.HasPrefix(c.args, "--entrypoint") {
			args = slices.Concat([]string{"run", "--rm"}, strings.Fields(c.args), []string{"busybox", "-c", c.command})
		}
		if out, code := h.docker("", args...); !strings.Contains(out, c.want) {
			t.Errorf("%s: %d %s, want %s", c.args, code, out, c.want)
		}
	}
	for _, c := range []struct{ body, want string }{
		{`"Cmd":["sh","-c","umask"],"HostConfig":{"Umask":63}`, "0077"},
		{`"Cmd":["stty","size"],"Tty":true,"HostConfig":{"ConsoleSize":[57,123]}`, "57 123"},
		{`"Cmd":["ls","/sys/class/net"],"NetworkDisabled":true`, "lo"},
	} {
		status, text := h.send("1.56", http.MethodPost, "/containers/create?name=process", `{"Image":"busybox",`+c.body+`}`)
		if status != http.StatusCreated {
			t.Fatal(text)
		}
		if out, code := h.docker("", "start", "-a", "process"); code != 0 || !strings.Contains(out, c.want) {
			t.Errorf("%s: %d %q, want %s", c.body, code, out, c.want)
		}
		h.docker("", "rm", "-f", "process")
	}
	h.docker("", "run", "-d", "--name", "signalled", "--stop-signal", "USR1", "busybox", "sh", "-c", "trap 'exit 9' USR1; echo ready; while :; do sleep 0.1; done")
	for range 100 {
		if out, _ := h.docker("", "logs", "signalled"); strings.Contains(out, "ready") {
			break
		}
	}
	h.docker("", "stop", "-t", "20", "signalled")
	if out, _ := h.docker("", "inspect", "-f", "{{.State.ExitCode}}", "signalled"); out != "9\n" {
		t.Errorf("stopped with %s", out)
	}
}

// pid is a process that only the host's namespace has.
func pid() string {
	text, _ := json.Marshal(os.Getpid()) //nolint:errchkjson // a number
	return string(text)
}

func hostname(t *testing.T) string {
	t.Helper()
	name, err := os.Hostname()
	if err != nil {
		t.Fatal(err)
	}
	return name
}
