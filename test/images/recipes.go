package images

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

const searchPath = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// busybox is Debian's busybox with a link for each of its applets.
func busybox() recipe {
	return recipe{
		name: "busybox",
		files: func(ctx context.Context, cache string) (tree, error) {
			t := tree{}
			return t, t.base(ctx, cache)
		},
		config: v1.Config{Cmd: []string{"sh"}, Env: []string{searchPath}},
	}
}

// base is what every image here has: busybox, accounts and a /tmp.
func (t tree) base(ctx context.Context, cache string) error {
	// Not the static one: glibc's resolver wants its shared libraries at run time.
	dir, err := unpack(ctx, cache, "busybox", "libc6")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	root := filepath.Join(dir, "root")
	if err := t.program(root, "bin/busybox"); err != nil {
		return fmt.Errorf("copy busybox: %w", err)
	}
	program := filepath.Join(root, "bin", "busybox")
	list, err := exec.CommandContext(ctx, program, "--list").Output()
	if err != nil {
		return fmt.Errorf("list applets: %w", err)
	}
	for applet := range strings.FieldsSeq(string(list)) {
		if applet != "busybox" {
			t.link("bin/"+applet, "busybox")
		}
	}
	t.text("etc/passwd", "root:x:0:0:root:/root:/bin/sh\nwww-data:x:33:33:www-data:/var/www:/bin/false\nnobody:x:65534:65534:nobody:/:/bin/false\n", 0o644)
	t.text("etc/group", "root:x:0:\nwww-data:x:33:\nnogroup:x:65534:\n", 0o644)
	t.text("etc/nsswitch.conf", "passwd: files\ngroup: files\nhosts: files dns\n", 0o644)
	t.directory("root", 0o700)
	t.directory("tmp", 0o1777)
	t.directory("home", 0o755)
	t.directory("var/run", 0o755)
	return nil
}

const nginxConf = `user www-data;
worker_processes 1;
error_log /var/log/nginx/error.log notice;
pid /run/nginx.pid;
events { worker_connections 1024; }
http {
	include mime.types;
	default_type application/octet-stream;
	log_format main '$remote_addr - $remote_user [$time_local] "$request" $status $body_bytes_sent "$http_referer" "$http_user_agent" "$http_x_forwarded_for"';
	access_log /var/log/nginx/access.log main;
	sendfile on;
	keepalive_timeout 65;
	include /etc/nginx/conf.d/*.conf;
}
`

const nginxSite = `server {
	listen 80;
	listen [::]:80;
	server_name localhost;
	location / {
		root /usr/share/nginx/html;
		index index.html;
	}
}
`

const nginxEntrypoint = `#!/bin/sh
# Runs what it is given; /docker-entrypoint.d may hold scripts to run first.
set -e
for f in /docker-entrypoint.d/*.sh; do
	[ -x "$f" ] && "$f"
done
exec "$@"
`

// nginx is Debian's nginx with the outward manners of the official image: port 80, welcome page, logs to the container's
// standard output, SIGQUIT to stop.
func nginx() recipe {
	return recipe{
		name:  "nginx",
		files: nginxFiles,
		config: v1.Config{
			Env:          []string{searchPath, "NGINX_VERSION=1.22.1"},
			Entrypoint:   []string{"/docker-entrypoint.sh"},
			Cmd:          []string{"nginx", "-g", "daemon off;"},
			ExposedPorts: map[string]struct{}{"80/tcp": {}},
			StopSignal:   "SIGQUIT",
			Labels:       map[string]string{"maintainer": "shoal tests"},
		},
	}
}

func nginxFiles(ctx context.Context, cache string) (tree, error) {
	t := tree{}
	if err := t.base(ctx, cache); err != nil {
		return nil, err
	}
	dir, err := unpack(ctx, cache, "nginx", "nginx-common", "libc6", "libcrypt1", "libpcre2-8-0", "libssl3", "zlib1g")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	root := filepath.Join(dir, "root")
	if err := t.program(root, "usr/sbin/nginx"); err != nil {
		return nil, fmt.Errorf("copy nginx: %w", err)
	}
	if err := t.file("etc/nginx/mime.types", filepath.Join(root, "etc/nginx/mime.types"), 0o644); err != nil {
		return nil, err
	}
	if err := t.file("usr/share/nginx/html/index.html", filepath.Join(root, "usr/share/nginx/html/index.html"), 0o644); err != nil {
		return nil, err
	}
	t.text("etc/nginx/nginx.conf", nginxConf, 0o644)
	t.text("etc/nginx/conf.d/default.conf", nginxSite, 0o644)
	t.text("docker-entrypoint.sh", nginxEntrypoint, 0o755)
	t.directory("docker-entrypoint.d", 0o755)
	t.directory("run", 0o755)
	t.directory("var/lib/nginx", 0o755)
	t.directory("var/log/nginx", 0o755)
	t.link("var/log/nginx/access.log", "/dev/stdout")
	t.link("var/log/nginx/error.log", "/dev/stderr")
	return t, nil
}

// srv is a server that says which address it sees its peer at; see the program.
func srv(version string) recipe {
	return recipe{
		name: "srv", tag: version,
		files: srvFiles,
		config: v1.Config{
			Env: []string{searchPath, "V=" + version},
			Cmd: []string{"/srv"},
		},
	}
}

func srvFiles(ctx context.Context, cache string) (tree, error) {
	t := tree{}
	if err := t.base(ctx, cache); err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp(cache, "srv-*")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	program := filepath.Join(dir, "srv")
	build := exec.CommandContext(ctx, "go", "build", "-trimpath", "-ldflags", "-s -w", "-o", program, "github.com/shoal-dev/shoal/test/images/srv")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("build srv: %w: %s", err, out)
	}
	return t, t.file("srv", program, 0o755)
}

func haproxy() recipe {
	return recipe{
		name:   "haproxy",
		files:  haproxyFiles,
		config: v1.Config{Env: []string{searchPath}, Cmd: []string{"haproxy", "-W", "-db", "-f", "/haproxy.cfg"}, StopSignal: "SIGUSR1"},
	}
}

func haproxyFiles(ctx context.Context, cache string) (tree, error) {
	t := tree{}
	if err := t.base(ctx, cache); err != nil {
		return nil, err
	}
	dir, err := unpack(ctx, cache, "haproxy", "libc6", "libcrypt1", "libssl3", "liblua5.3-0", "libsystemd0", "libpcre2-8-0", "libopentracing-c-wrapper0", "libopentracing1", "libgcc-s1", "libstdc++6",
		"libcap2", "libgcrypt20", "libgpg-error0", "liblzma5", "libzstd1", "liblz4-1", "zlib1g")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	return t, t.program(filepath.Join(dir, "root"), "usr/sbin/haproxy")
}
