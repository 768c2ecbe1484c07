package engine

import (
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"

	"github.com/shoal-dev/shoal/internal/container/cgroup"
	testimages "github.com/shoal-dev/shoal/test/images"
)

// send sends a request as a client of an API version does, and returns the status and the body of the answer.
func (h *dockerHost) send(version, method, path, body string) (int, string) {
	h.t.Helper()
	client := http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", h.socket)
	}}}
	defer client.CloseIdleConnections()
	request, err := http.NewRequestWithContext(h.t.Context(), method, "http://docker/v"+version+path, strings.NewReader(body))
	if err != nil {
		h.t.Fatal(err)
	}
	if body != "" {
		request.Header.Set("Content-Type", "application/json")
	}
	response, err := client.Do(request)
	if err != nil {
		h.t.Fatal(err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		h.t.Fatal(err)
	}
	return response.StatusCode, string(text)
}

// field is what is at a path of a JSON value, such as "HostConfig.Runtime".
func field(t *testing.T, text, path string) any {
	t.Helper()
	var tree any
	if err := json.Unmarshal([]byte(text), &tree); err != nil {
		t.Fatalf("%v: %s", err, text)
	}
	for name := range strings.SplitSeq(path, ".") {
		o, _ := tree.(map[string]any)
		tree = o[name]
	}
	return tree
}

// newBusyboxHost is a node with one image.
func newBusyboxHost(t *testing.T) *dockerHost {
	t.Helper()
	h := newDockerHost(t)
	paths, err := testimages.Build(t.Context(), testimages.CacheDir())
	if err != nil {
		t.Fatal(err)
	}
	if out, code := h.docker("", "load", "-i", paths["busybox"]); code != 0 {
		t.Fatal(out)
	}
	return h
}

// Each of these was accepted, or refused in words or with a status of our own.
func TestInvalidRequestsAreRefusedInDockersWords(t *testing.T) {
	h := newBusyboxHost(t)
	const create = "/containers/create"
	for _, c := range []struct {
		path, body string // "" for create, with HostConfig if the body begins with host:
		status     int
		want       string
	}{
		{body: `{"Image":"busybox"} trailing`, status: 400, want: "unexpected content after JSON"},
		{body: `{"Image":`, status: 400, want: "invalid JSON: unexpected EOF"},
		{body: `{"Image":"busybox","Env":["=x"]}`, status: 400, want: "invalid environment variable: =x"},
		{body: `{"Image":"busybox","WorkingDir":"x"}`, status: 400, want: "the working directory 'x' is invalid, it needs to be an absolute path"},
		{body: `{"Image":"busybox","StopSignal":"NOPE"}`, status: 400, want: "invalid signal: NOPE"},
		{body: `{"Image":"busybox","Healthcheck":{"Interval":1}}`, status: 400, want: "Interval in Healthcheck cannot be less than 1ms"},
		{body: `{"Image":"busybox","Healthcheck":{"Retries":-1}}`, status: 400, want: "Retries in Healthcheck cannot be negative"},
		{body: `host:{"Tmpfs":{"/":""}}`, status: 400, want: "invalid specification: destination can't be '/'"},
		{body: `host:{"Tmpfs":{"x":""}}`, status: 400, want: "invalid mount path: 'x' mount path must be absolute"},
		{body: `host:{"RestartPolicy":{"Name":"sometimes"}}`, status: 400,
			want: "invalid restart policy: unknown policy 'sometimes'; use one of 'no', 'always', 'on-failure', or 'unless-stopped'"},
		{body: `host:{"RestartPolicy":{"Name":"always","MaximumRetryCount":1}}`, status: 400, want: "invalid restart policy: maximum retry count can only be used with 'on-failure'"},
		{body: `host:{"RestartPolicy":{"Name":"always"},"AutoRemove":true}`, status: 400, want: "can't create 'AutoRemove' container with restart policy"},
		{body: `host:{"IpcMode":"container:"}`, status: 400, want: "invalid IPC mode: container:"},
		{body: `host:{"PidMode":"x"}`, status: 400, want: "invalid PID mode: x"},
		{body: `host:{"ShmSize":-1}`, status: 400, want: "SHM size can not be less than 0"},
		{body: `host:{"OomScoreAdj":2000}`, status: 400, want: "Invalid value 2000, range for oom score adj is [-1000, 1000]"},
		{body: `host:{"Memory":1}`, status: 400, want: "Minimum memory limit allowed is 6MB"},
		{body: `host:{"MemorySwap":100000000}`, status: 400, want: "You should always set the Memory limit when using Memoryswap limit, see usage"},
		{body: `host:{"NanoCpus":1000000000,"CpuQuota":5000}`, status: 400, want: "Conflicting options: Nano CPUs and CPU Quota cannot both be set"},
		{body: `host:{"CpusetCpus":"4000"}`, status: 400, want: "Requested CPUs are not available - requested 4000"},
		{body: `host:{"CpusetCpus":"x"}`, status: 400, want: "Invalid value x for cpuset cpus"},
		{body: `host:{"Isolation":"hyperv"}`, status: 400, want: "invalid isolation 'hyperv' on linux"},
		{body: `host:{"ExtraHosts":["x"]}`, status: 400, want: `bad format for add-host: \"x\"`},
		{body: `host:{"Annotations":{"":"x"}}`, status: 400, want: "the empty string is not permitted as an annotation key"},
		{body: `host:{"VolumesFrom":["nosuch"]}`, status: 400, want: "No such container: nosuch"},
		{body: `host:{"VolumesFrom":["x:y"]}`, status: 400, want: "invalid mode: y"},
		{body: `host:{"Mounts":[{"Type":"bind","Source":"/","Target":"/x","VolumeOptions":{}}]}`, status: 400, want: `VolumeOptions must not be specified on mount type \"bind\"`},
		{path: create + "?platform=linux/s390x", body: `{"Image":"busybox"}`, status: 404, want: "does not provide the specified platform (linux/s390x)"},
		{path: create + "?platform=a/b/c/d", body: `{"Image":"busybox"}`, status: 400, want: "invalid"},
		{path: "/containers/one/rename?name=one", status: 400, want: "Renaming a container with the same name as its current name"},
		{path: "/containers/one/resize?h=x&w=1", status: 400, want: `invalid resize height \"x\": invalid syntax`},
		{path: "/containers/one/resize?h=1&w=-1", status: 400, want: `invalid resize width \"-1\": value out of range`},
		{path: "/containers/one/resize?h=1&w=99999999999", status: 400, want: `invalid resize width \"99999999999\": value out of range`},
		{path: "/containers/one/exec", body: `{"Cmd":[]}`, status: 400, want: "No exec command specified"},
		{path: "/containers/one/update", body: `{"RestartPolicy":{"Name":"x"}}`, status: 400, want: "invalid restart policy: unknown policy 'x'"},
	} {
		if c.path != "" && !strings.HasPrefix(c.path, create) {
			if out, code := h.docker("", "create", "--name", "one", "busybox"); code != 0 {
				t.Fatal(out)
			}
		}
		path := c.path
		if path == "" {
			path = create
		}
		if host, ok := strings.CutPrefix(c.body, "host:"); ok {
			c.body = `{"Image":"busybox","HostConfig":` + host + `}`
		}
		if status, text := h.send("1.51", http.MethodPost, path, c.body); status != c.status || !strings.Contains(text, c.want) {
			t.Errorf("POST %s %s: %d %s, want %d %s", path, c.body, status, strings.TrimSpace(text), c.status, c.want)
		}
		h.docker("", "rm", "-f", "one")
	}
	weight := `{"Image":"busybox","HostConfig":{"BlkioWeight":5}}` // which is not looked at where the kernel has no weights
	if status, text := h.send("1.51", http.MethodPost, create, weight); cgroup.HasBlockIO("weight") != (status == http.StatusBadRequest && strings.Contains(text, "Range of blkio weight is from 10 to 1000")) {
		t.Errorf("a weight of 5: %d %s", status, text)
	}
	if status, text := h.send("1.52", http.MethodPost, create, `{"Image":"busybox","MacAddress":"02:00:00:00:00:01"}`); status != 400 || !strings.Contains(text, "container-wide MAC address no longer supported") {
		t.Errorf("%d %s", status, text)
	}
}

func TestWarningsAreThoseOfDocker(t *testing.T) {
	h := newBusyboxHost(t)
	for _, c := range []struct{ version, body, want string }{
		{"1.51", `{"Image":"busybox"}`, `"Warnings":[]`},
		{"1.51", `{"Image":"busybox","MacAddress":"02:00:00:00:00:01"}`, "The container-wide MacAddress field is now deprecated."},
		{"1.43", `{"Image":"busybox","MacAddress":"02:00:00:00:00:01"}`, `"Warnings":[]`},
		{"1.52", `{"Image":"busybox","HostConfig":{"PortBindings":{"80/tcp":[]}}}`, "Following container port(s) have an empty list of port-bindings: 80/tcp."},
		{"1.51", `{"Image":"busybox","HostConfig":{"NetworkMode":"host","PortBindings":{"80/tcp":[{}]}}}`, "Published ports are discarded when using host network mode"},
		{"1.51", `{"Image":"busybox","HostConfig":{"CpuPercent":5}}`, "linux does not support CPU percent. Percent discarded."},
		{"1.47", `{"Image":"busybox","HostConfig":{"Sysctls":{"net.ipv4.conf.eth0.forwarding":"1"}}}`, "Migrated sysctl"},
	} {
		if status, text := h.send(c.version, http.MethodPost, "/containers/create", c.body); status != 201 || !strings.Contains(text, c.want) {
			t.Errorf("%s %s: %d %s, want %s", c.version, c.body, status, text, c.want)
		}
	}
}

// What was asked for, and what it became, was not shown; after an update, what had been asked for before it was.
func TestInspectShowsWhatTheContainerWasGiven(t *testing.T) {
	h := newBusyboxHost(t)
	status, text := h.send("1.51", http.MethodPost, "/containers/create?name=shown", `{"Image":"busybox","Cmd":["sleep","1000"],"Env":["FOO"],"MacAddress":"02:00:00:00:00:01",
		"HostConfig":{"Memory":67108864,"Annotations":{"a":"b"},"LogConfig":{"Config":{"max-size":"1m"}},"NetworkMode":"n"},
		"NetworkingConfig":{"EndpointsConfig":{"n":{"Links":["x:y"],"Aliases":["al"],"IPAMConfig":{"IPv4Address":"10.1.2.3","LinkLocalIPs":["169.254.8.8"]}}}}}`)
	if status != http.StatusCreated {
		t.Fatal(text)
	}
	expect := func(version string, want map[string]any) {
		t.Helper()
		_, text := h.send(version, http.MethodGet, "/containers/shown/json", "")
		for path, value := range want {
			if got, _ := json.Marshal(field(t, text, path)); string(got) != value {
				t.Errorf("%s %s: %s, want %s", version, path, got, value)
			}
		}
	}
	expect("1.51", map[string]any{
		"HostConfig.Runtime": `"runc"`, "HostConfig.IpcMode": `"private"`, "HostConfig.ShmSize": `67108864`, "HostConfig.MemorySwap": `134217728`,
		"HostConfig.LogConfig": `{"Config":{"max-size":"1m"},"Type":"json-file"}`, "HostConfig.NetworkMode": `"n"`, "HostConfig.PidsLimit": `null`,
		"HostConfig.ReadonlyPaths":              `["/proc/bus","/proc/fs","/proc/irq","/proc/sys","/proc/sysrq-trigger"]`,
		"NetworkSettings.Networks.n.IPAMConfig": `{"IPv4Address":"10.1.2.3","LinkLocalIPs":["169.254.8.8"]}`,
		"NetworkSettings.Networks.n.Links":      `["x:y"]`,
		"NetworkSettings.Networks.n.MacAddress": `"02:00:00:00:00:01"`,
		"NetworkSettings.IPAddress":             `""`,
		"Config.MacAddress":                     `"02:00:00:00:00:01"`,
		"GraphDriver":                           `{"Data":null,"Name":"overlayfs"}`,
		"Storage":                               `null`,
	})
	expect("1.52", map[string]any{"GraphDriver": `null`, "Storage": `{"RootFS":{"Snapshot":{"Name":"overlayfs"}}}`})
	if _, text := h.send("1.51", http.MethodGet, "/containers/shown/json", ""); !strings.Contains(text, `"FOO"`) {
		t.Errorf("a variable without a value is not shown: %s", text)
	}
	for _, version := range []string{"1.45", "1.46"} {
		_, text := h.send(version, http.MethodGet, "/containers/json?all=1", "")
		if got := strings.Contains(text, `"Annotations":{"a":"b"}`); got != (version == "1.46") || !strings.Contains(text, `"NetworkMode":"n"`) {
			t.Errorf("%s: %s", version, text)
		}
	}
	if status, text := h.send("1.51", http.MethodPost, "/containers/shown/update",
		`{"CpuQuota":20000,"CpuPeriod":40000,"PidsLimit":7,"Memory":33554432,"RestartPolicy":{"Name":"on-failure","MaximumRetryCount":3}}`); status != http.StatusOK {
		t.Fatal(text)
	}
	expect("1.51", map[string]any{"HostConfig.CpuQuota": `20000`, "HostConfig.CpuPeriod": `40000`, "HostConfig.PidsLimit": `7`, "HostConfig.Memory": `33554432`,
		"HostConfig.RestartPolicy": `{"MaximumRetryCount":3,"Name":"on-failure"}`, "HostConfig.Runtime": `"runc"`})
	if status, text := h.send("1.51", http.MethodPost, "/containers/shown/update", `{"PidsLimit":-1}`); status != http.StatusOK {
		t.Fatal(text)
	}
	expect("1.51", map[string]any{"HostConfig.PidsLimit": `0`, "HostConfig.CpuQuota": `20000`})
	if _, text := h.send("1.51", http.MethodPost, "/containers/shown/update", `{"NanoCpus":1000000000}`); !strings.Contains(text, "Conflicting options: Nano CPUs cannot be updated as CPU Period has already been set") {
		t.Error(text)
	}
}

// Memory swappiness was refused, although version 1 of cgroups has it.
func TestSwappinessIsSetWhereTheKernelHasIt(t *testing.T) {
	h := newBusyboxHost(t)
	out, code := h.docker("", "run", "--rm", "--memory-swappiness", "7", "busybox", "cat", "/sys/fs/cgroup/memory/memory.swappiness")
	if cgroup.V2() {
		if !strings.Contains(out, "Memory swappiness discarded.") {
			t.Errorf("%d %s", code, out)
		}
		return
	}
	if code != 0 || strings.TrimSpace(out) != "7" {
		t.Errorf("%d %s", code, out)
	}
}

func TestSmallEndpointsDoWhatDockerDoes(t *testing.T) {
	h := newBusyboxHost(t)
	docker := func(args ...string) string {
		t.Helper()
		out, code := h.docker("", args...)
		if code != 0 {
			t.Fatalf("docker %v: %d %s", args, code, out)
		}
		return out
	}
	docker("create", "--name", "target", "busybox")
	docker("create", "--name", "parent", "--link", "target:alias", "busybox")
	if _, text := h.send("1.51", http.MethodGet, "/containers/json?all=1", ""); !strings.Contains(text, `"Names":["/target","/parent/alias"]`) {
		t.Errorf("names: %s", text)
	}
	if out := docker("inspect", "-f", "{{.HostConfig.Links}}", "parent"); out != "[/target:/parent/alias]\n" {
		t.Errorf("links: %s", out)
	}
	if out, code := h.docker("", "rm", "--link", "parent"); code != 1 || !strings.Contains(out, "Conflict, cannot remove the default link name of the container") {
		t.Errorf("%d %s", code, out)
	}
	if out, code := h.docker("", "rm", "--link", "parent/other"); code != 1 || !strings.Contains(out, "No such container: parent/other") {
		t.Errorf("%d %s", code, out)
	}
	docker("rm", "--link", "parent/alias")
	if _, text := h.send("1.51", http.MethodGet, "/containers/json?all=1", ""); strings.Contains(text, "alias") {
		t.Errorf("names: %s", text)
	}
	if status, text := h.send("1.51", http.MethodGet, `/containers/json?filters={"before":["nosuch"]}`, ""); status != 404 || !strings.Contains(text, "No such container: nosuch") {
		t.Errorf("list before a container that is not there: %d %s", status, text)
	}
	docker("run", "--name", "said", "busybox", "echo", "hello")
	if status, text := h.send("1.41", http.MethodPost, "/containers/said/attach?logs=1&stream=0&stdout=1", ""); status != 200 || !strings.HasSuffix(text, "hello\n") {
		t.Errorf("attach to logs: %d %q", status, text)
	}
	docker("run", "-d", "--name", "again", "--restart", "always", "busybox", "false")
	h.send("1.51", http.MethodPost, "/containers/again/wait", "") // until its first end
	if out, code := h.docker("", "rm", "again"); code != 1 || !strings.Contains(out, `cannot remove container "/again": container is restarting: stop the container before removing or force remove`) &&
		!strings.Contains(out, "container is running") {
		t.Errorf("rm of a container that is restarted: %d %s", code, out)
	}
	docker("rm", "-f", "again")
	for range 20 { // the process ends before, while or after it would be paused
		docker("run", "-d", "--name", "brief", "busybox", "true")
		docker("commit", "brief", "briefs")
		docker("rm", "-f", "brief")
	}
	if status, text := h.send("1.41", http.MethodGet, "/containers/json/?all=1", ""); status != 200 || !strings.Contains(text, "parent") {
		t.Errorf("trailing slash: %d %s", status, text)
	}
	if status, text := h.send("1.51", http.MethodPost, "/images/load", "garbage"); status != 200 || !strings.Contains(text, `"errorDetail"`) {
		t.Errorf("load: %d %s", status, text)
	}
	docker("run", "-d", "--name", "again", "--restart", "always", "busybox", "sh", "-c", "exit 3")
	if out := docker("wait", "again"); out != "3\n" {
		t.Errorf("wait: %s", out)
	}
	docker("rm", "-f", "again")
	docker("run", "--name", "wrote", "busybox", "sh", "-c", "dd if=/dev/zero of=/f bs=1M count=3")
	_, text := h.send("1.51", http.MethodPost, "/containers/prune", "")
	if freed, _ := field(t, text, "SpaceReclaimed").(float64); freed < 3<<20 {
		t.Errorf("prune: %s", text)
	}
}

// The frames of an exec's output were those of the exec's terminal, not what its start had asked for.
func TestExecOutputIsFramedAsItsStartAsks(t *testing.T) {
	h := newBusyboxHost(t)
	if out, code := h.docker("", "run", "-d", "--name", "cc", "--stop-signal", "KILL", "busybox", "sleep", "1000"); code != 0 {
		t.Fatal(out)
	}
	for start, want := range map[string]string{`{"Tty":true}`: "hi\n", `{}`: "\x01\x00\x00\x00\x00\x00\x00\x03hi\n"} {
		_, text := h.send("1.51", http.MethodPost, "/containers/cc/exec", `{"Cmd":["echo","hi"],"AttachStdout":true,"AttachStderr":true}`)
		id, _ := field(t, text, "Id").(string)
		if status, got := h.send("1.51", http.MethodPost, "/exec/"+id+"/start", start); status != 200 || got != want {
			t.Errorf("%s: %d %q, want %q", start, status, got, want)
		}
	}
	_, text := h.send("1.51", http.MethodPost, "/containers/cc/exec", `{"Cmd":["stty","size"],"AttachStdout":true,"Tty":true,"ConsoleSize":[57,123]}`)
	id, _ := field(t, text, "Id").(string)
	if _, got := h.send("1.51", http.MethodPost, "/exec/"+id+"/start", `{"Tty":true}`); !strings.Contains(got, "57 123") {
		t.Errorf("console size: %q", got)
	}
}

// Counters were zero, and the one sample before which there was none had processors.
func TestStatsHaveTheCountersOfTheKernel(t *testing.T) {
	h := newBusyboxHost(t)
	if out, code := h.docker("", "run", "-d", "--name", "busy", "--cpus", "0.05", "--stop-signal", "KILL", "busybox", "sh", "-c", "while :; do :; done"); code != 0 {
		t.Fatal(out)
	}
	_, text := h.send("1.51", http.MethodGet, "/containers/busy/stats?stream=0", "")
	if n, _ := field(t, text, "cpu_stats.throttling_data.periods").(float64); n == 0 {
		t.Errorf("throttling: %s", text)
	}
	if stats, _ := field(t, text, "memory_stats.stats").(map[string]any); len(stats) < 10 {
		t.Errorf("memory: %v", stats)
	}
	if field(t, text, "os_type") != "linux" || field(t, text, "precpu_stats.online_cpus") == nil {
		t.Error(text)
	}
	_, text = h.send("1.51", http.MethodGet, "/containers/busy/stats?stream=0&one-shot=1", "")
	if n := field(t, text, "precpu_stats.online_cpus"); n != nil {
		t.Errorf("before the first sample there were %v processors", n)
	}
	if status, text := h.send("1.51", http.MethodGet, "/containers/busy/stats?one-shot=1", ""); status != 400 || !strings.Contains(text, "cannot have stream=true and one-shot=true") {
		t.Errorf("%d %s", status, text)
	}
	_, text = h.send("1.51", http.MethodGet, "/containers/busy/json?size=1", "")
	if n, _ := field(t, text, "SizeRootFs").(float64); n < 1000 {
		t.Errorf("size: %v", n)
	}
	_, text = h.send("1.51", http.MethodGet, "/images/busybox/history", "")
	if !strings.Contains(text, `"Size":`) || strings.Count(text, `"Size":0`) == strings.Count(text, `"Size":`) {
		t.Errorf("history: %s", text)
	}
}

// Layers that images share were counted for each, and lists were null.
func TestDiskUsageCountsEachLayerOnce(t *testing.T) {
	h := newBusyboxHost(t)
	usage := func(version, query string) map[string]any {
		t.Helper()
		status, text := h.send(version, http.MethodGet, "/system/df"+query, "")
		var out map[string]any
		if err := json.Unmarshal([]byte(text), &out); err != nil || status != 200 {
			t.Fatalf("%d %s", status, text)
		}
		if strings.Contains(text, ":null") && version != "1.43" {
			if strings.Contains(text, `"Images":null`) || strings.Contains(text, `"Containers":null`) || strings.Contains(text, `"Volumes":null`) || strings.Contains(text, `"BuildCache":null`) {
				t.Errorf("%s", text)
			}
		}
		return out
	}
	before := usage("1.51", "")["LayersSize"].(float64)
	if out, code := h.docker("", "run", "--name", "base", "busybox", "sh", "-c", "echo 123 >/f"); code != 0 {
		t.Fatal(out)
	}
	if out, code := h.docker("", "commit", "base", "derived"); code != 0 {
		t.Fatal(out)
	}
	now := usage("1.51", "")
	if after := now["LayersSize"].(float64); after <= before || after > before+200_000 {
		t.Errorf("%v bytes in layers, %v with one that adds few", before, after)
	}
	if images := now["Images"].([]any); len(images) != 2 || images[0].(map[string]any)["SharedSize"].(float64) < 1000 {
		t.Errorf("%v", images)
	}
	if c := now["Containers"].([]any)[0].(map[string]any); c["SizeRw"] == nil || c["SizeRootFs"] == nil {
		t.Errorf("%v", c)
	}
	if now["BuildCache"] == nil || now["ImageUsage"] != nil {
		t.Errorf("%v", now)
	}
	if only := usage("1.51", "?type=volume"); only["Images"] != nil || only["Volumes"] == nil {
		t.Errorf("%v", only)
	}
	if status, text := h.send("1.51", http.MethodGet, "/system/df?type=x", ""); status != 400 || !strings.Contains(text, "unknown object type: x") {
		t.Errorf("%d %s", status, text)
	}
	if newest := usage("1.52", "?verbose=1"); newest["Images"] != nil || newest["ImageUsage"].(map[string]any)["Items"] == nil {
		t.Errorf("%v", newest)
	}
	if old := usage("1.41", ""); old["BuilderSize"] == nil || old["Images"].([]any)[0].(map[string]any)["VirtualSize"] == nil {
		t.Errorf("%v", old)
	}
}
