package engine

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"

	apicontainer "github.com/moby/moby/api/types/container"
	apinetwork "github.com/moby/moby/api/types/network"
	"github.com/moby/moby/api/types/registry"
	apivolume "github.com/moby/moby/api/types/volume"

	"github.com/shoal-dev/shoal/internal/api/server"
	"github.com/shoal-dev/shoal/internal/api/server/servertest"
	"github.com/shoal-dev/shoal/internal/container"
	"github.com/shoal-dev/shoal/internal/events"
)

// Why a field has no effect, here and in Docker.
const (
	ofWindows    = "of Windows only"
	ofMac        = "of Docker Desktop only"
	filledIn     = "filled in by the engine: requests have it because they are of the type of answers"
	ofContainers = "of containers: an image has no place for it"
)

// refusalBy returns how a handler refuses a body, "" if it does not.
func refusalBy(h server.Handler) func(body string) string {
	return func(body string) string {
		r := httptest.NewRequest(http.MethodPost, "/", strings.NewReader(body))
		r.Header.Set("Content-Type", "application/json")
		if err := h(httptest.NewRecorder(), r); err != nil {
			return err.Error()
		}
		return ""
	}
}

// endpointFates is what becomes of the settings of an endpoint, which are below a path.
func endpointFates(at string) servertest.Fates {
	f := servertest.Fates{Honoured: map[string][]string{}, Without: map[string][]string{}}
	add := func(to map[string][]string, key string, names ...string) {
		for _, name := range names {
			to[key] = append(to[key], at+"."+name)
		}
	}
	add(f.Honoured, "TestInspectShowsWhatTheContainerWasGiven", "Aliases", "MacAddress", "IPAMConfig.IPv4Address")
	add(f.Honoured, "TestOptionsOfEndpoints", "DriverOpts", "GwPriority", "IPAMConfig.LinkLocalIPs")
	add(f.Honoured, "TestNamesOfLinksAndHostnames", "Links")
	add(f.Honoured, "TestLocalNetworkWithIPv6", "IPAMConfig.IPv6Address")
	add(f.Without, filledIn, "NetworkID", "EndpointID", "Gateway", "IPAddress", "IPPrefixLen", "IPv6Gateway", "GlobalIPv6Address", "GlobalIPv6PrefixLen", "DNSNames")
	return f
}

// A field of a request that has neither an effect nor a refusal is silently ignored: none may be, and a new version of the API must not bring one unnoticed.
func TestNoFieldOfAContainerIsSilentlyIgnored(t *testing.T) {
	const cpu, qos = "Your kernel does not support CPU real-time scheduler", "Invalid QoS settings: linux does not support Maximum IO Bandwidth or Maximum IO IOps"
	fates := endpointFates("NetworkingConfig.EndpointsConfig")
	fates.Without[ofWindows] = []string{"ArgsEscaped", "HostConfig.CpuCount"}
	fates.Without[ofMac] = []string{"HostConfig.Mounts.Consistency"}
	for _, c := range []struct{ name, value, words string }{
		{"Cgroup", `"container:x"`, "the cgroup of another container: not supported by this engine"}, {"CpuRealtimePeriod", `1`, cpu}, {"CpuRealtimeRuntime", `1`, cpu},
		{"IOMaximumBandwidth", `1`, qos}, {"IOMaximumIOps", `1`, qos}, {"Isolation", `"hyperv"`, "invalid isolation 'hyperv' on linux"},
		{"DeviceRequests", `[{"Driver":"x"}]`, `could not select device driver "x" with capabilities: []`},
		{"StorageOpt", `{"size":"1G"}`, "storage options: not supported by this engine"},
	} {
		fates.Refused = append(fates.Refused, servertest.Refusal{Path: "HostConfig." + c.name, Body: `{"Image":"i","HostConfig":{"` + c.name + `":` + c.value + `}}`, Words: c.words})
	}
	fates.Refused = append(fates.Refused, servertest.Refusal{Path: "HostConfig.Mounts.ClusterOptions",
		Body: `{"Image":"i","HostConfig":{"Mounts":[{"Type":"cluster","Source":"v","Target":"/v","ClusterOptions":{}}]}}`, Words: `invalid mount config for type "cluster": mount type unknown`})
	for test, paths := range map[string][]string{
		"TestDockerCLI": {
			"Hostname", "User", "Tty", "OpenStdin", "StdinOnce", "AttachStdin", "AttachStdout", "AttachStderr", "Cmd", "Image", "WorkingDir", "Labels", "ExposedPorts",
			"HostConfig.Binds", "HostConfig.NetworkMode", "HostConfig.PortBindings", "HostConfig.AutoRemove", "HostConfig.CapDrop", "HostConfig.ReadonlyRootfs",
			"HostConfig.Tmpfs", "HostConfig.NanoCpus", "HostConfig.Init", "HostConfig.ContainerIDFile",
		},
		"TestInspectShowsWhatTheContainerWasGiven": {
			"Env", "HostConfig.Memory", "HostConfig.MemorySwap", "HostConfig.Annotations", "HostConfig.LogConfig", "HostConfig.CpuQuota", "HostConfig.CpuPeriod", "HostConfig.PidsLimit",
			"HostConfig.RestartPolicy", "HostConfig.Runtime",
		},
		"TestFieldsOfTheProcess": {"StopSignal", "Domainname", "NetworkDisabled", "HostConfig.Umask", "HostConfig.ConsoleSize", "HostConfig.GroupAdd", "HostConfig.Ulimits", "HostConfig.OomScoreAdj", "HostConfig.ShmSize", "HostConfig.Sysctls", "HostConfig.CapAdd", "HostConfig.SecurityOpt", "HostConfig.Privileged", "Entrypoint", "HostConfig.PidMode", "HostConfig.UTSMode", "HostConfig.CpusetCpus", "HostConfig.CpusetMems", "HostConfig.Devices", "Volumes",
			"HostConfig.Mounts.Type", "HostConfig.Mounts.Source", "HostConfig.Mounts.Target", "HostConfig.Mounts.ReadOnly",
			"HostConfig.MaskedPaths", "HostConfig.ReadonlyPaths"},
		"TestFieldsOfMounts":   {"HostConfig.Mounts.BindOptions", "HostConfig.Mounts.VolumeOptions", "HostConfig.Mounts.TmpfsOptions"},
		"TestAnImageIsMounted": {"HostConfig.Mounts.ImageOptions"},
		"TestLimitsAreInTheKernelsFiles": {"HostConfig.BlkioWeight", "HostConfig.BlkioWeightDevice", "HostConfig.BlkioDeviceReadBps", "HostConfig.BlkioDeviceWriteBps",
			"HostConfig.BlkioDeviceReadIOps", "HostConfig.BlkioDeviceWriteIOps", "HostConfig.CpuShares", "HostConfig.MemoryReservation", "HostConfig.CgroupParent"},
		"TestACommitHasWhatTheContainerAndTheRequestSay": {"Shell", "OnBuild"},
		"TestClientsOfEveryAPIVersionAreServed":          {"HostConfig.Dns", "HostConfig.DnsOptions", "HostConfig.DnsSearch", "HostConfig.ExtraHosts"},
		"TestPublishAllAndUpdatesOfWhatStays":            {"HostConfig.PublishAllPorts"},
		"TestDevicesAndLimits":                           {"StopTimeout", "HostConfig.DeviceCgroupRules", "HostConfig.VolumeDriver"},
		"TestNamespacesOfOthers":                         {"HostConfig.IpcMode", "HostConfig.CgroupnsMode", "HostConfig.UsernsMode"},
		"TestSwappinessIsSetWhereTheKernelHasIt":         {"HostConfig.MemorySwappiness"},
		"TestSmallEndpointsDoWhatDockerDoes":             {"HostConfig.Links"},
		"TestWarningsAreThoseOfDocker":                   {"HostConfig.CpuPercent"},
		"TestHealthIsFollowed":                           {"Healthcheck"},
		"TestInvalidRequestsAreRefusedInDockersWords":    {"HostConfig.OomKillDisable", "HostConfig.VolumesFrom"},
	} {
		fates.Honoured[test] = append(fates.Honoured[test], paths...)
	}
	servertest.CheckFields(t, reflect.TypeFor[apicontainer.CreateRequest](), fates, refusalBy(func(_ http.ResponseWriter, r *http.Request) error {
		_, _, err := readCreateRequest(r, container.New(container.Config{}))
		return err
	}))
}

func TestNoFieldOfOtherRequestsIsSilentlyIgnored(t *testing.T) {
	const fixed = " cannot be changed by an update: it is fixed when a container is created"
	update := servertest.Fates{
		Honoured: map[string][]string{
			"TestInspectShowsWhatTheContainerWasGiven": {"CpuQuota", "CpuPeriod", "PidsLimit", "Memory", "RestartPolicy", "NanoCpus"},
			"TestLimitsAreInTheKernelsFiles": {"BlkioWeight", "BlkioWeightDevice", "BlkioDeviceReadBps", "BlkioDeviceWriteBps", "BlkioDeviceReadIOps", "BlkioDeviceWriteIOps",
				"CpuShares", "MemoryReservation", "MemorySwap", "CpusetCpus", "CpusetMems"},
			"TestWarningsAreThoseOfDocker": {"CpuPercent"},
		},
		Without: map[string][]string{ofWindows: {"CpuCount"}},
	}
	for name, value := range map[string]string{
		"Ulimits": `[{"Name":"nofile","Soft":1,"Hard":1}]`, "Devices": `[{}]`, "DeviceCgroupRules": `["c 1:1 r"]`, "DeviceRequests": `[{}]`, "CgroupParent": `"/x"`,
		"MemorySwappiness": `7`, "OomKillDisable": `true`,
	} {
		update.Refused = append(update.Refused, servertest.Refusal{Path: name, Body: `{"` + name + `":` + value + `}`, Words: name + fixed})
	}
	for name, words := range map[string]string{
		"CpuRealtimePeriod": "CPU real-time scheduler", "CpuRealtimeRuntime": "CPU real-time scheduler", "IOMaximumBandwidth": "Invalid QoS settings", "IOMaximumIOps": "Invalid QoS settings",
	} {
		update.Refused = append(update.Refused, servertest.Refusal{Path: name, Body: `{"` + name + `":1}`, Words: words})
	}
	connect := endpointFates("EndpointConfig")
	connect.Honoured["TestPlainContainersOnOverlays"] = []string{"Container"}
	none := func(string) string { return "" }
	for _, c := range []struct {
		request any
		fates   servertest.Fates
		refuse  func(body string) string
	}{
		{apicontainer.UpdateConfig{}, update, refusalBy(func(_ http.ResponseWriter, r *http.Request) error {
			var body apicontainer.UpdateConfig
			if err := server.ReadJSON(r, &body); err != nil {
				return err
			}
			if err := validateUpdate(body.Resources); err != nil {
				return err
			}
			_, err := validateResources(&body.Resources, true)
			return err
		})},
		{apicontainer.ExecCreateRequest{}, servertest.Fates{Honoured: map[string][]string{
			"TestFieldsOfExecs": {"User", "Privileged", "Tty", "ConsoleSize", "AttachStdin", "AttachStdout", "AttachStderr", "Env", "WorkingDir", "Cmd", "DetachKeys"},
		}}, none},
		{apicontainer.ExecStartRequest{}, servertest.Fates{Honoured: map[string][]string{
			"TestExecOutputIsFramedAsItsStartAsks": {"Tty"}, "TestFieldsOfExecs": {"Detach", "ConsoleSize"},
		}}, none},
		{apicontainer.Config{}, servertest.Fates{
			Honoured: map[string][]string{"TestACommitHasWhatTheContainerAndTheRequestSay": {
				"User", "ExposedPorts", "Env", "Cmd", "Healthcheck", "Volumes", "WorkingDir", "Entrypoint", "OnBuild", "Labels", "StopSignal", "Shell"}},
			Without: map[string][]string{ofWindows: {"ArgsEscaped"}, ofContainers: {
				"Hostname", "Domainname", "AttachStdin", "AttachStdout", "AttachStderr", "Tty", "OpenStdin", "StdinOnce", "Image", "NetworkDisabled", "StopTimeout"}},
		}, none},
		{apinetwork.CreateRequest{}, servertest.Fates{
			Honoured: map[string][]string{
				"TestNetworksOfManyKinds":               {"Name", "Driver", "Attachable", "Internal", "Labels", "IPAM.Config", "Ingress", "EnableIPv6", "ConfigOnly", "ConfigFrom"},
				"TestClientsOfEveryAPIVersionAreServed": {"Scope"},
				"TestModesOfAGateway":                   {"Options"},
				"TestANetworkWithoutIPv4":               {"EnableIPv4"},
				"TestWhatCannotBeCreated":               {"IPAM.Driver"},
			},
			Without: map[string][]string{"shown only: the allocator of addresses that there is has no options": {"IPAM.Options"}},
		}, none},
		{apinetwork.ConnectRequest{}, connect, none},
		{apinetwork.DisconnectRequest{}, servertest.Fates{Honoured: map[string][]string{"TestPlainContainersOnOverlays": {"Container"}, "TestClientsOfEveryAPIVersionAreServed": {"Force"}}}, none},
		{apivolume.CreateRequest{}, servertest.Fates{
			Honoured: map[string][]string{"TestStorage": {"Name", "Driver", "DriverOpts", "Labels"}},
			Refused:  []servertest.Refusal{{Path: "ClusterVolumeSpec", Body: `{"Name":"v","ClusterVolumeSpec":{}}`, Words: "cluster volumes: not supported by this engine"}},
		}, refusalBy((&volumes{events: &events.Bus{}}).create)},
		{registry.AuthConfig{}, servertest.Fates{Honoured: map[string][]string{
			"TestLogin": {"username", "password", "serveraddress", "identitytoken"}, "TestAccountsInOneField": {"auth"}, "TestAPrivateRegistry": {"registrytoken"},
		}}, none},
	} {
		servertest.CheckFields(t, reflect.TypeOf(c.request), c.fates, c.refuse)
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
		{`"Cmd":["sh","-c","ls -l /proc/interrupts /proc/version"]`, "crw-rw-rw-    1 root     root        1,   3"},
		{`"Cmd":["sh","-c","wc -c </proc/version; test -f /proc/interrupts && echo seen"],"HostConfig":{"MaskedPaths":["/proc/version"]}`, "0\nseen"},
		{`"Cmd":["sh","-c","test -f /proc/interrupts && echo seen"],"HostConfig":{"MaskedPaths":[]}`, "seen"},
		{`"Cmd":["sh","-c","grep -c ' /proc/sys/net ro,' /proc/self/mountinfo; grep -c ' /proc/bus ' /proc/self/mountinfo"],"HostConfig":{"ReadonlyPaths":["/proc/sys/net"]}`, "1\n0"},
		{`"Cmd":["sh","-c","grep -c ' /proc/sys ' /proc/self/mountinfo"],"HostConfig":{"ReadonlyPaths":[]}`, "0"},
	} {
		status, text := h.send("1.56", http.MethodPost, "/containers/create?name=process", `{"Image":"busybox",`+c.body+`}`)
		if status != http.StatusCreated {
			t.Fatal(text)
		}
		if out, _ := h.docker("", "start", "-a", "process"); !strings.Contains(out, c.want) {
			t.Errorf("%s: %q, want %s", c.body, out, c.want)
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
