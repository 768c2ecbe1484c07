package engine

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/shoal-dev/shoal/internal/container/cgroup"
)

// blockDevice is a whole block device of the host, and its number as the kernel writes it.
func blockDevice(t *testing.T) (path, number string) {
	t.Helper()
	names, _ := filepath.Glob("/sys/block/*")
	for _, name := range names {
		path := "/dev/" + filepath.Base(name)
		var st unix.Stat_t
		if unix.Stat(path, &st) == nil && st.Mode&unix.S_IFMT == unix.S_IFBLK {
			return path, fmt.Sprintf("%d:%d", unix.Major(st.Rdev), unix.Minor(st.Rdev))
		}
	}
	t.Fatal("needs a block device")
	return "", ""
}

// make creates a container and returns its ID and the warnings.
func (h *dockerHost) make(body string) (id, warnings string) {
	h.t.Helper()
	status, text := h.send("1.56", http.MethodPost, "/containers/create", body)
	if status != http.StatusCreated {
		h.t.Fatalf("%s: %d %s", body, status, text)
	}
	shown, err := json.Marshal(field(h.t, text, "Warnings"))
	if err != nil {
		h.t.Fatal(err)
	}
	return fmt.Sprint(field(h.t, text, "Id")), string(shown)
}

// Limits of block devices were refused by an update, settings that the kernel does not have kept containers from starting, and what the others become was not looked at.
func TestLimitsAreInTheKernelsFiles(t *testing.T) {
	h := newBusyboxHost(t)
	device, number := blockDevice(t)
	parent := fmt.Sprintf("/shoal-fields-%d", os.Getpid())
	t.Cleanup(func() { cgroup.Remove(parent) })
	id, warnings := h.make(`{"Image":"busybox","Cmd":["sleep","1000"],"HostConfig":{"CgroupParent":"` + parent + `","CpuShares":300,"Memory":67108864,"MemoryReservation":33554432,"BlkioWeight":300,
		"BlkioWeightDevice":[{"Path":"` + device + `","Weight":200}],
		"BlkioDeviceReadBps":[{"Path":"` + device + `","Rate":1048576}],"BlkioDeviceWriteBps":[{"Path":"` + device + `","Rate":2097152}],
		"BlkioDeviceReadIOps":[{"Path":"` + device + `","Rate":1000}],"BlkioDeviceWriteIOps":[{"Path":"` + device + `","Rate":2000}]}}`)
	for setting, want := range map[string]string{
		"weight":        "Your kernel does not support Block I/O weight or the cgroup is not mounted. Weight discarded.",
		"weight_device": "Your kernel does not support Block I/O weight_device or the cgroup is not mounted. Weight-device discarded.",
	} {
		if strings.Contains(warnings, want) == cgroup.HasBlockIO(setting) {
			t.Errorf("%s: warnings %s", setting, warnings)
		}
	}
	if out, code := h.docker("", "start", id); code != 0 {
		t.Fatal(out)
	}
	defer h.docker("", "rm", "-f", id)
	type setting struct{ controller, v1, v2, want1, want2 string }
	expect := func(settings ...setting) {
		t.Helper()
		for _, s := range settings {
			path, want := filepath.Join("/sys/fs/cgroup", s.controller, parent, id, s.v1), s.want1
			if cgroup.V2() {
				path, want = filepath.Join("/sys/fs/cgroup", parent, id, s.v2), s.want2
			}
			text, err := os.ReadFile(path)
			if err != nil || !strings.Contains(string(text), want) {
				t.Errorf("%s: %q %v, want %q", path, text, err, want)
			}
		}
	}
	expect(
		setting{"cpu", "cpu.shares", "cpu.weight", "300\n", "\n"},
		setting{"memory", "memory.soft_limit_in_bytes", "memory.low", "33554432\n", "33554432\n"},
		setting{"blkio", "blkio.throttle.read_bps_device", "io.max", number + " 1048576\n", "rbps=1048576"},
		setting{"blkio", "blkio.throttle.write_bps_device", "io.max", number + " 2097152\n", "wbps=2097152"},
		setting{"blkio", "blkio.throttle.read_iops_device", "io.max", number + " 1000\n", "riops=1000"},
		setting{"blkio", "blkio.throttle.write_iops_device", "io.max", number + " 2000\n", "wiops=2000"},
	)
	update := func(version, body string) string {
		t.Helper()
		status, text := h.send(version, http.MethodPost, "/containers/"+id+"/update", body)
		if status != http.StatusOK {
			t.Fatalf("%s: %d %s", body, status, text)
		}
		return text
	}
	text := update("1.56", `{"CpuShares":700,"MemoryReservation":16777216,"CpusetCpus":"0","CpusetMems":"0","BlkioWeight":400,"BlkioDeviceReadBps":[{"Path":"`+device+`","Rate":4194304}],"BlkioDeviceWriteIOps":[]}`)
	if strings.Contains(text, "Weight discarded") == cgroup.HasBlockIO("weight") {
		t.Errorf("warnings of an update: %s", text)
	}
	expect(
		setting{"cpu", "cpu.shares", "cpu.weight", "700\n", "\n"},
		setting{"memory", "memory.soft_limit_in_bytes", "memory.low", "16777216\n", "16777216\n"},
		setting{"cpuset", "cpuset.cpus", "cpuset.cpus", "0\n", "0\n"},
		setting{"cpuset", "cpuset.mems", "cpuset.mems", "0\n", "0\n"},
		setting{"blkio", "blkio.throttle.read_bps_device", "io.max", number + " 4194304\n", "rbps=4194304"},
		setting{"blkio", "blkio.throttle.write_bps_device", "io.max", number + " 2097152\n", "wbps=2097152"}, // not named, and so kept
		setting{"blkio", "blkio.throttle.write_iops_device", "io.max", "", "wiops=max"},
	)
	if !cgroup.V2() {
		if left, err := os.ReadFile(filepath.Join("/sys/fs/cgroup/blkio", parent, id, "blkio.throttle.write_iops_device")); err != nil || len(left) > 0 {
			t.Errorf("a limit that was taken away: %q %v", left, err)
		}
	}
	update("1.54", `{"BlkioDeviceReadBps":[{"Path":"`+device+`","Rate":1}],"Memory":134217728,"MemorySwap":134217728}`) // clients of that time could not mean the former
	expect(
		setting{"blkio", "blkio.throttle.read_bps_device", "io.max", number + " 4194304\n", "rbps=4194304"},
		setting{"memory", "memory.memsw.limit_in_bytes", "memory.max", "134217728\n", "134217728\n"},
	)
	_, shown := h.send("1.56", http.MethodGet, "/containers/"+id+"/json", "")
	for path, want := range map[string]string{
		"HostConfig.BlkioDeviceReadBps": `[{"Path":"` + device + `","Rate":4194304}]`, "HostConfig.BlkioDeviceWriteIOps": `[]`, "HostConfig.CpuShares": `700`,
	} {
		if got, _ := json.Marshal(field(t, shown, path)); string(got) != want {
			t.Errorf("%s: %s, want %s", path, got, want)
		}
	}
}

// What a commit was asked to put into the new image was ignored, and triggers and the shell of the container were lost.
func TestACommitHasWhatTheContainerAndTheRequestSay(t *testing.T) {
	h := newBusyboxHost(t)
	id, _ := h.make(`{"Image":"busybox","Cmd":["own"],"Env":["A=1","B=2"],"Shell":["/bin/sh","-xc"],"OnBuild":["RUN true"],"User":"33","Volumes":{"/own":{}},
		"Healthcheck":{"Test":["CMD","true"],"Interval":2000000000,"StartInterval":1000000000},"Labels":{"own":"1"}}`)
	commit := func(query, body string) map[string]any {
		t.Helper()
		status, text := h.send("1.51", http.MethodPost, "/commit?container="+id+query, body)
		if status != http.StatusCreated {
			t.Fatalf("%d %s", status, text)
		}
		_, shown := h.send("1.51", http.MethodGet, "/images/"+fmt.Sprint(field(t, text, "Id"))+"/json", "")
		config, _ := field(t, shown, "Config").(map[string]any)
		return config
	}
	check := func(config map[string]any, want map[string]string) {
		t.Helper()
		for name, value := range want {
			if got, _ := json.Marshal(config[name]); string(got) != value {
				t.Errorf("%s: %s, want %s", name, got, value)
			}
		}
	}
	own := commit("", "")
	check(own, map[string]string{"Shell": `["/bin/sh","-xc"]`, "OnBuild": `["RUN true"]`, "Cmd": `["own"]`, "User": `"33"`, "Volumes": `{"/own":{}}`,
		"Healthcheck": `{"Interval":2000000000,"StartInterval":1000000000,"Test":["CMD","true"]}`})
	check(commit("", "null"), map[string]string{"Cmd": `["own"]`})
	asked := commit("&changes=ENV+C%3D3", `{"User":"44","ExposedPorts":{"80/tcp":{}},"Env":["A=9"],"Cmd":["asked"],"Entrypoint":["/e"],"Volumes":{"/asked":{}},"WorkingDir":"/w","Labels":{"asked":"2"},
		"StopSignal":"INT","OnBuild":["RUN false"],"Shell":["/s"],"Healthcheck":{"Retries":7},"Tty":true,"Hostname":"h"}`)
	check(asked, map[string]string{"User": `"44"`, "ExposedPorts": `{"80/tcp":{}}`, "Cmd": `["asked"]`, "Entrypoint": `["/e"]`, "Volumes": `{"/asked":{},"/own":{}}`, "WorkingDir": `"/w"`,
		"Labels": `{"asked":"2","own":"1"}`, "StopSignal": `"INT"`, "OnBuild": `["RUN false"]`, "Shell": `["/s"]`,
		"Healthcheck": `{"Interval":2000000000,"Retries":7,"StartInterval":1000000000,"Test":["CMD","true"]}`})
	if env := fmt.Sprint(asked["Env"]); !strings.HasPrefix(env, "[A=9 C=3 ") || !strings.Contains(env, " B=2") || strings.Contains(env, "A=1") {
		t.Errorf("environment %s", env)
	}
}

// frameHeader is what comes before each part of a stream that is no terminal.
var frameHeader = regexp.MustCompile(`[\x01\x02]\x00\x00\x00\x00\x00[\s\S]{2}`)

func TestFieldsOfExecs(t *testing.T) {
	h := newBusyboxHost(t)
	id, _ := h.make(`{"Image":"busybox","Cmd":["sleep","1000"]}`)
	if out, code := h.docker("", "start", id); code != 0 {
		t.Fatal(out)
	}
	for _, c := range []struct{ create, start, want string }{
		{`"Cmd":["sh","-c","id -u; pwd; echo $A"],"User":"33","WorkingDir":"/tmp","Env":["A=b"]`, `{}`, "33\n/tmp\nb\n"},
		{`"Cmd":["grep","CapEff","/proc/self/status"],"Privileged":true`, `{}`, "CapEff:\t000001ff"},
		{`"Cmd":["sh","-c","sleep 0.2; stty size"],"Tty":true,"ConsoleSize":[11,22]`, `{"Tty":true}`, "11 22"},
		{`"Cmd":["sh","-c","sleep 0.5; stty size"],"Tty":true,"ConsoleSize":[11,22]`, `{"Tty":true,"ConsoleSize":[33,44]}`, "33 44"},
		{`"Cmd":["sh","-c","echo seen; echo hidden >&2"],"AttachStderr":false`, `{}`, "seen\n"},
	} {
		extra := `"AttachStdout":true,"AttachStderr":true,`
		if strings.Contains(c.create, "AttachStderr") {
			extra = `"AttachStdout":true,`
		}
		status, text := h.send("1.51", http.MethodPost, "/containers/"+id+"/exec", `{`+extra+c.create+`}`)
		if status != http.StatusCreated {
			t.Fatalf("%s: %d %s", c.create, status, text)
		}
		_, out := h.send("1.51", http.MethodPost, "/exec/"+fmt.Sprint(field(t, text, "Id"))+"/start", c.start)
		if !strings.Contains(strings.ReplaceAll(frameHeader.ReplaceAllString(out, ""), "\r", ""), c.want) || strings.Contains(out, "hidden") {
			t.Errorf("%s %s: %q, want %s", c.create, c.start, out, c.want)
		}
	}
	if out, _ := h.docker("typed", "exec", "-i", id, "cat"); out != "typed" { // AttachStdin
		t.Errorf("standard input: %q", out)
	}
	status, text := h.send("1.51", http.MethodPost, "/containers/"+id+"/exec", `{"Cmd":["touch","/detached"]}`)
	if status != http.StatusCreated {
		t.Fatal(text)
	}
	exec := fmt.Sprint(field(t, text, "Id"))
	if status, text := h.send("1.51", http.MethodPost, "/exec/"+exec+"/start", `{"Detach":true}`); status != http.StatusOK || text != "" {
		t.Errorf("detached: %d %q", status, text)
	}
	for range 100 {
		if _, text := h.send("1.51", http.MethodGet, "/exec/"+exec+"/json", ""); field(t, text, "Running") == false {
			break
		}
	}
	if out, code := h.docker("", "exec", id, "ls", "/detached"); code != 0 {
		t.Error(out)
	}
	status, text = h.send("1.51", http.MethodPost, "/containers/"+id+"/exec", `{"Cmd":["sh"],"DetachKeys":"nonsense"}`)
	if status == http.StatusCreated {
		status, text = h.send("1.51", http.MethodPost, "/exec/"+fmt.Sprint(field(t, text, "Id"))+"/start", `{}`)
	}
	if status != http.StatusBadRequest || !strings.Contains(text, "Unknown character: 'nonsense'") {
		t.Errorf("detach keys: %d %s", status, text)
	}
}

func TestFieldsOfMounts(t *testing.T) {
	h := newBusyboxHost(t)
	dir := t.TempDir()
	missing := filepath.Join(dir, "missing")
	run := func(mount, script string) string {
		t.Helper()
		id, _ := h.make(`{"Image":"busybox","Cmd":["sh","-c",` + fmt.Sprintf("%q", script) + `],"HostConfig":{"Mounts":[` + mount + `]}}`)
		defer h.docker("", "rm", "-f", id)
		out, _ := h.docker("", "start", "-a", id)
		return out
	}
	const mountOfM = "grep ' /m ' /proc/self/mountinfo"
	for _, c := range []struct{ mount, script, want string }{
		{`{"Type":"bind","Source":"` + missing + `","Target":"/m","BindOptions":{"CreateMountpoint":true}}`, "ls -d /m", "/m\n"},
		{`{"Type":"bind","Source":"/sys","Target":"/m","BindOptions":{"NonRecursive":true}}`, "grep -c ' /m' /proc/self/mountinfo", "1\n"},
		{`{"Type":"bind","Source":"/sys","Target":"/m","ReadOnly":true,"BindOptions":{"ReadOnlyNonRecursive":true}}`, mountOfM, " ro,"},
		{`{"Type":"bind","Source":"` + dir + `","Target":"/m","BindOptions":{"Propagation":"rprivate"}}`, mountOfM, " rw"},
		{`{"Type":"volume","Source":"labelled","Target":"/etc","VolumeOptions":{"NoCopy":true,"Labels":{"a":"b"}}}`, "ls /etc/passwd 2>&1", "No such file"},
		{`{"Type":"volume","Source":"driven","Target":"/m","VolumeOptions":{"DriverConfig":{"Name":"local","Options":{"type":"tmpfs","device":"tmpfs","o":"size=1m"}}}}`, "mkdir /m/sub; df -k /m", " 1024 "},
		{`{"Type":"tmpfs","Target":"/m","TmpfsOptions":{"SizeBytes":1048576,"Mode":448,"Options":[["noexec"]]}}`, "df -k /m; stat -c %a /m; " + mountOfM, "noexec"},
		{`{"Type":"tmpfs","Target":"/m","TmpfsOptions":{"SizeBytes":1048576,"Mode":448}}`, "df -k /m; stat -c %a /m", "\n700\n"},
	} {
		if out := run(c.mount, c.script); !strings.Contains(out, c.want) {
			t.Errorf("%s: %q, want %q", c.mount, out, c.want)
		}
	}
	if out, _ := h.docker("", "volume", "inspect", "labelled", "-f", "{{.Labels}}"); out != "map[a:b]\n" {
		t.Errorf("labels of a volume: %s", out)
	}
	if out, code := h.docker("", "volume", "rm", "driven"); code != 0 { // it is mounted until then
		t.Error(out)
	}
	run(`{"Type":"volume","Source":"parts","Target":"/m"}`, "mkdir /m/sub; echo within >/m/sub/f")
	if out := run(`{"Type":"volume","Source":"parts","Target":"/m","VolumeOptions":{"Subpath":"sub"}}`, "cat /m/f"); out != "within\n" {
		t.Errorf("a part of a volume: %q", out)
	}
	if status, text := h.send("1.56", http.MethodPost, "/containers/create", `{"Image":"busybox","HostConfig":{"Mounts":[{"Type":"bind","Source":"/","Target":"/m","ImageOptions":{}}]}}`); status != http.StatusBadRequest {
		t.Errorf("%d %s", status, text)
	}
}
