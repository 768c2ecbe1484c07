package engine

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// Profiles of system calls had their first colon rewritten, and options that mean nothing were taken.
func TestSecurityOptionsOfAContainer(t *testing.T) {
	h := newDockerHost(t)
	h.loadBusybox()
	profile := filepath.Join(t.TempDir(), "profile.json")
	text := `{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["mkdir","mkdirat"],"action":"SCMP_ACT_ERRNO"}]}`
	if err := os.WriteFile(profile, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	with := func(option string, command ...string) []string {
		return append([]string{"run", "--rm", "--security-opt", option, "busybox"}, command...)
	}
	nnp := []string{"grep", "NoNewPrivs:", "/proc/self/status"}
	h.expect([]step{
		{args: with("seccomp="+profile, "mkdir", "/d"), want: "Operation not permitted", code: 1},
		{args: with("seccomp="+profile, "touch", "/d")},
		{args: []string{"run", "--rm", "--privileged", "--security-opt", "seccomp=" + profile, "busybox", "mkdir", "/d"}, want: "Operation not permitted", code: 1},
		{args: with("seccomp=unconfined", "grep", "Seccomp:", "/proc/self/status"), want: "Seccomp:\t0"},
		{args: with("seccomp=builtin", "grep", "Seccomp:", "/proc/self/status"), want: "Seccomp:\t2"},
		{args: with("no-new-privileges", nnp...), want: "NoNewPrivs:\t1"},
		{args: with("no-new-privileges:true", nnp...), want: "NoNewPrivs:\t1"},
		{args: with("no-new-privileges=false", nnp...), want: "NoNewPrivs:\t0"},
		{args: with("no-new-privileges=perhaps", nnp...), want: `invalid --security-opt 2: "no-new-privileges=perhaps"`, code: 125},
		{args: with("label=disable", "true")},
		{args: with("label=type:t", "true")},
		{args: with("apparmor=unconfined", "true")},
		{args: with("colour=red", "true"), want: `invalid --security-opt 2: "colour=red"`, code: 125},
		{args: with("writable-cgroups=true", "sh", "-c", "cd /sys/fs/cgroup; if [ -d pids ]; then cd pids; fi; mkdir x && rmdir x")},
		{args: with("writable-cgroups=false", "sh", "-c", "cd /sys/fs/cgroup; if [ -d pids ]; then cd pids; fi; mkdir x"), want: "Read-only file system", code: 1},
		{args: with("systempaths=unconfined", "sh", "-c", "head -c 1 /proc/timer_list; grep -c \" /proc/\" /proc/self/mountinfo"), want: "0\n", code: 1},
		{args: with("seccomp=builtin", "grep", "-c", " /proc/sys ", "/proc/self/mountinfo"), want: "1\n"},
	})
}

// A terminal had no size before its client had sent one.
func TestATerminalHasItsSizeFromTheStart(t *testing.T) {
	h := newDockerHost(t)
	h.loadBusybox()
	id := h.post("/containers/create", `{"Image":"busybox","Tty":true,"Cmd":["stty","size"],"HostConfig":{"ConsoleSize":[57,123]}}`)["Id"]
	h.expect([]step{
		{args: []string{"start", "-a", id.(string)}, want: "57 123\n"},
	})
}

// Namespaces of other containers were refused, and those of the host did not start where the host has no message queues.
func TestNamespacesOfOthers(t *testing.T) {
	h := newDockerHost(t)
	h.loadBusybox()
	own := func(kind, file string) []string {
		return []string{"run", "--rm", kind, "busybox", "readlink", "/proc/self/ns/" + file}
	}
	of := func(file string) string {
		link, err := os.Readlink("/proc/self/ns/" + file)
		if err != nil {
			t.Fatal(err)
		}
		return link
	}
	h.expect([]step{
		{args: own("--ipc=host", "ipc"), want: of("ipc")},
		{args: own("--pid=host", "pid"), want: of("pid")},
		{args: own("--uts=host", "uts"), want: of("uts")},
		{args: own("--cgroupns=host", "cgroup"), want: of("cgroup")},
		{args: own("--userns=host", "user"), want: of("user")},
		{args: words("run -d --name donor --ipc shareable --shm-size 1m busybox sh -c echo_shared_>/dev/shm/f;exec_sleep_1000")},
		{args: words("run -d --name closed busybox sleep 1000")},
		{args: words("run --rm --ipc container:donor busybox cat /dev/shm/f"), want: "shared"},
		{args: words("run --rm --ipc container:closed busybox true"), want: "non-shareable IPC (hint: use IpcMode:shareable for the donor container)", code: 125},
		{args: words("run --rm --ipc container:nosuch busybox true"), want: "No such container: nosuch", code: 125},
		{args: words("run --rm --ipc none busybox ls /dev/shm"), want: "No such file", code: 1},
		{args: words("run --rm --ipc private busybox df /dev/shm"), want: "shm"},
		{args: words("run --name joined --rm --pid container:donor busybox ps"), want: "sleep 1000"},
		{args: words("run --rm --pid container:nosuch busybox ps"), want: "No such container: nosuch", code: 125},
		{args: words("run -d --name guest --pid container:donor busybox sleep 2000")},
		{args: words("rename donor patron")},
		{args: words("restart -t 0 guest"), want: "guest"},
		{args: words("rm -f guest")},
		{args: words("exec patron ps"), want: "sleep 1000"},
		{args: words("stop -t 0 patron")},
		{args: words("run --rm --pid container:patron busybox ps"), want: "is not running", code: 125},
		{args: words("start patron")},
		{args: words("exec patron cat /dev/shm/f"), want: "shared"},
		{args: words("rm -f patron closed")},
		{args: words("run --rm --runtime nosuch busybox true"), want: "unknown or invalid runtime name: nosuch", code: 125},
		{args: words("run --rm --runtime io.containerd.runc.v2 busybox true")},
	})
}

// Devices in directories, rules for devices and limits of them were refused.
func TestDevicesAndLimits(t *testing.T) {
	h := newDockerHost(t)
	h.loadBusybox()
	h.expect([]step{
		{args: words("run --rm --device /dev/net:/dev/other busybox ls /dev/other"), want: "tun"},
		{args: words("run --rm --device /dev/nosuch busybox true"), want: `error gathering device information while adding custom device "/dev/nosuch"`, code: 127},
		{args: words("run --rm --privileged busybox ls /dev/net/tun"), want: "/dev/net/tun"},
		{args: words("run --rm --privileged --device /dev/null:/dev/mine busybox ls /dev/mine"), want: "/dev/mine"},
		{args: []string{"run", "--rm", "--device-cgroup-rule", "c 10:237 rwm", "busybox", "sh", "-c", "mknod /t c 10 237 && exec 3<>/t && echo opened"}, want: "opened"},
		{args: []string{"run", "--rm", "busybox", "sh", "-c", "mknod /t c 10 237 && exec 3<>/t && echo opened"}, want: "Operation not permitted", code: 1},
		{args: strings.Fields("run --rm --sysctl net.ipv4.ip_unprivileged_port_start=7 busybox cat /proc/sys/net/ipv4/ip_unprivileged_port_start"), want: "7\n"},
		{args: strings.Fields("run --rm busybox cat /proc/sys/net/ipv4/ip_unprivileged_port_start /proc/sys/net/ipv4/ping_group_range"), want: "0\n0\t2147483647\n"},
		{args: words("run --rm --memory-swappiness 5 busybox true")},
		{args: words("run --rm --memory-swappiness 500 busybox true"), want: "alid memory swappiness range is 0-100", code: 125},
		{args: words("run --rm --device-read-bps /dev/nosuch:1mb busybox true"), want: "stat /dev/nosuch: no such file or directory", code: 127},
		{args: words("run --rm --cpu-rt-runtime 1000 busybox true"), want: "Your kernel does not support CPU real-time scheduler", code: 125},
		{args: words("run --rm --annotation a=b busybox true")},
		{args: words("run -d --name never --stop-timeout 0 busybox sh -c trap_true_TERM;while_:;do_sleep_100;done")},
		{args: words("stop never"), want: "never"},
		{args: words("inspect never -f {{.State.ExitCode}}"), want: "137"},
		{args: words("create --name uses --tmpfs /t --mount type=tmpfs,dst=/m busybox")},
		{args: words("inspect uses -f {{range_.Mounts}}{{.Type}}{{.Destination}}_{{end}}"), want: "tmpfs/m \n"},
		{args: words("run --rm --pull never --volume-driver nosuch -v vol:/v busybox true"), want: `plugin "nosuch" not found`, code: 125},
	})
}

// Images could not be mounted.
func TestAnImageIsMounted(t *testing.T) {
	h := newDockerHost(t)
	h.loadBusybox()
	h.expect([]step{
		{args: words("run --name made busybox sh -c mkdir_/sub;echo_within_>/sub/f")},
		{args: words("commit made data:1"), want: "sha256:"},
		{args: words("run --rm --mount type=image,src=data:1,dst=/i busybox cat /i/sub/f"), want: "within"},
		{args: words("run --rm --mount type=image,src=data:1,dst=/i,image-subpath=sub busybox cat /i/f"), want: "within"},
		{args: words("run --rm --mount type=image,src=data:1,dst=/i busybox touch /i/new"), want: "Read-only file system", code: 1},
		{args: words("run --rm --mount type=image,src=data:1,dst=/i,image-subpath=none busybox true"), want: "cannot access path", code: 127},
		{args: words("run --rm --pull never --mount type=image,src=nosuch,dst=/i busybox true"), want: "No such image: nosuch", code: 125},
		{args: words("run -d --name shows --mount type=image,src=data:1,dst=/i busybox sleep 1000")},
		{args: words("inspect shows -f {{range_.Mounts}}{{.Type}}_{{.Name}}_{{.Destination}}_{{.RW}}{{end}}"), want: "image data:1 /i false\n"},
		{args: words("rmi data:1"), want: "must be forced", code: 1},
		{args: words("restart -t 0 shows")},
		{args: words("exec shows cat /i/sub/f"), want: "within"},
		{args: words("cp shows:/i/sub/f -"), want: "within"},
		{args: words("stop -t 0 shows")},
		{args: words("cp shows:/i/sub/f -"), want: "within"},
		{args: words("rm -f shows")},
		{args: words("rmi data:1"), want: "Untagged: data:1"},
	})
}

// Of parts of volumes, links that lead out of the volume were followed inside it, as if it were a root; absolute paths and those with ".." were taken; and an empty
// part was not filled from the image. The part is fixed when it is looked up: what is exchanged in the volume afterwards does not count.
func TestAPartOfAVolumeIsMounted(t *testing.T) {
	h := newDockerHost(t)
	h.loadBusybox()
	h.expect([]step{
		{args: words("run --rm -v vol:/v busybox sh -c mkdir_-p_/v/sub_/v/hack_/v/bin;echo_within_>/v/sub/f;ln_-s_../sub_/v/hack/good;ln_-s_/_/v/hack/root;ln_-s_root_/v/hack/bad")},
		{args: words("run --rm --mount type=volume,src=vol,dst=/m,volume-subpath=sub busybox cat /m/f"), want: "within"},
		{args: words("run --rm --mount type=volume,src=vol,dst=/m,volume-subpath=sub/f busybox cat /m"), want: "within"},
		{args: words("run --rm --mount type=volume,src=vol,dst=/m,volume-subpath=hack/good busybox cat /m/f"), want: "within"},
		{args: words("run --rm --mount type=volume,src=vol,dst=/bin,volume-subpath=bin busybox ls /bin/busybox"), want: "/bin/busybox"},
		{args: words("run --rm --mount type=volume,src=vol,dst=/m,volume-subpath=hack/root busybox true"), want: "path concatenation escapes the base directory", code: 125},
		{args: words("run --rm --mount type=volume,src=vol,dst=/m,volume-subpath=hack/bad busybox true"), want: "path concatenation escapes the base directory", code: 125},
		{args: words("run --rm --mount type=volume,src=vol,dst=/m,volume-subpath=none busybox true"), want: "cannot access path", code: 127},
		{args: words("run --rm --mount type=volume,src=vol,dst=/m,volume-subpath=../../etc busybox true"), want: "subpath must be a relative path within the volume", code: 125},
		{args: words("run -d --name keeps --mount type=volume,src=vol,dst=/m,volume-subpath=sub busybox sleep 1000")},
		{args: words("run --rm -v vol:/v busybox sh -c rm_/v/hack/good;mv_/v/sub_/v/other;ln_-s_/_/v/sub")},
		{args: words("exec keeps cat /m/f"), want: "within"},
		{args: words("restart -t 0 keeps"), want: "path concatenation escapes the base directory", code: 1},
	})
}

// A link on the default bridge gave no environment, one to nothing was taken, and a new name of its target broke it.
func TestLinksOnTheDefaultBridge(t *testing.T) {
	h := newDockerHost(t)
	h.loadBusybox()
	h.expect([]step{
		{args: words("run -d --name db --expose 5432 -e PASSWORD=secret busybox sleep 1000")},
		{args: words("run --rm --name web --link db:data-base busybox env"), want: "DATA_BASE_PORT_5432_TCP=tcp://10.77.0."},
		{args: words("run --rm --name web --link db:data-base busybox env"), want: "DATA_BASE_ENV_PASSWORD=secret"},
		{args: strings.Fields("run -d --name web --link db -e DB_NAME=mine busybox sleep 1000")},
		{args: words("exec web env"), want: "DB_NAME=mine"},
		{args: words("exec web env"), want: "DB_PORT_5432_TCP_PROTO=tcp"},
		{args: words("create --link nosuch:x busybox"), want: "could not get container for nosuch: No such container: nosuch", code: 1},
		{args: words("rename db store")},
		{args: words("inspect web -f {{.HostConfig.Links}}"), want: "[/store:/web/db]"},
		{args: words("inspect -f {{.Name}} web/db"), want: "/store\n"}, // a link is a name too
		{args: words("exec web/db echo reached"), want: "reached\n"},
		{args: words("inspect -f {{.Name}} web/nosuch"), want: "No such", code: 1},
		{args: words("rm web/db"), want: "container is running", code: 1},
		{args: words("restart -t 0 web")},
		{args: words("exec web env"), want: "DB_PORT_5432_TCP_PROTO=tcp"},
		{args: words("ps --filter name=store --format {{.Names}} --no-trunc"), want: "web/db"},
		{args: words("stop -t 0 web store")},
		{args: words("start web"), want: "Cannot link to a non running container: /store AS /web/db", code: 1},
	})
}

// Ports that only the image exposes were not published, and updates of what a container has for life were taken and forgotten.
func TestPublishAllAndUpdatesOfWhatStays(t *testing.T) {
	h := newDockerHost(t)
	h.loadBusybox()
	h.expect([]step{
		{args: words("create --name made busybox true")},
		{args: words("commit -c EXPOSE_8080_53/udp made exposes"), want: "sha256:"},
		{args: words("run -d -P -p 9999:53/udp --name up exposes sleep 1000")},
		{args: words("port up"), want: "8080/tcp -> 0.0.0.0:"},
		{args: words("port up"), want: "53/udp -> 0.0.0.0:9999"},
		{args: words("update --cpu-shares 512 up"), want: "up"},
	})
	for _, body := range []string{`{"Ulimits":[{"Name":"nofile","Soft":10,"Hard":10}]}`, `{"Devices":[{"PathOnHost":"/dev/null"}]}`, `{"CgroupParent":"/x"}`} {
		if message, _ := h.post("/containers/up/update", body)["message"].(string); !strings.Contains(message, "cannot be changed by an update") {
			t.Errorf("%s: %q", body, message)
		}
	}
}

// The line of a health check was run by /bin/sh whatever the image's SHELL was.
func TestTheShellOfAHealthCheck(t *testing.T) {
	h := newDockerHost(t)
	h.loadBusybox()
	id := h.post("/containers/create", `{"Image":"busybox","Cmd":["sleep","1000"],"Shell":["/bin/sh","-xc"],"Healthcheck":{"Test":["CMD-SHELL","echo probed"],"Interval":10000000}}`)["Id"].(string)
	h.expect([]step{{args: words("start " + id)}})
	for deadline := time.Now().Add(30 * time.Second); ; {
		out, _ := h.docker("", "inspect", id, "-f", "{{range .State.Health.Log}}{{.Output}}{{end}}")
		if strings.Contains(out, "+ echo probed") {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("output of the probes: %q", out)
		}
	}
}
