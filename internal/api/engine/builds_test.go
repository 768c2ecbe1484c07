package engine

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"maps"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/moby/buildkit/client"
	"github.com/moby/buildkit/session"
	"github.com/moby/buildkit/session/filesync"
	"github.com/moby/buildkit/session/secrets/secretsprovider"
	"github.com/tonistiigi/fsutil"

	"github.com/shoal-dev/shoal/internal/registry/registrytest"
	testimages "github.com/shoal-dev/shoal/test/images"
)

// writeContext makes a build's context of files by their names.
func writeContext(t *testing.T, files map[string]string) (dir string) {
	t.Helper()
	dir = t.TempDir()
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// The stages have a common base: BuildKit resolves images of several stages in goroutines that set the same flag, which the race detector minds.
const twoStages = `FROM busybox AS base
FROM base AS made
ARG GREETING=none
RUN echo "$GREETING" > /made && cat /etc/resolv.conf > /dev/null && grep -E '^(Seccomp|CapBnd):' /proc/self/status >> /made
FROM base
COPY --from=made /made /made
COPY file /file
LABEL stage=last
CMD ["cat", "/made", "/file"]
`

// `docker build` was answered with 404. The CLI without buildx sends the context as an archive.
func TestABuildMakesAnImageThatRuns(t *testing.T) {
	h := newBusyboxHost(t)
	dir := writeContext(t, map[string]string{"Dockerfile": twoStages, "file": "from the context\n"})
	out, code := h.docker("", "build", "-t", "built", "-t", "example.org/other:v1", "--build-arg", "GREETING=hello", dir)
	if code != 0 || !strings.Contains(out, "Step ") || !strings.Contains(out, "Successfully built ") || !strings.Contains(out, "Successfully tagged built:latest") {
		t.Fatalf("build ends with %d: %s", code, out)
	}
	const limited = "hello\nCapBnd:\t00000000a80425fb\nSeccomp:\t2\nfrom the context\n" // Docker's default capabilities, and a filter of system calls
	if out, code := h.docker("", "run", "--rm", "--network", "none", "built"); code != 0 || out != limited {
		t.Errorf("run ends with %d: %q, want %q", code, out, limited)
	}
	if out, _ := h.docker("", "images", "--format", "{{.Repository}}:{{.Tag}}"); !strings.Contains(out, "built:latest\n") || !strings.Contains(out, "example.org/other:v1\n") {
		t.Errorf("images: %s", out)
	}
	if out, _ := h.docker("", "build", "-t", "again", "--build-arg", "GREETING=hello", dir); strings.Count(out, " ---> Using cache") < 2 {
		t.Errorf("a second build does not use the cache: %s", out)
	}
	if out, _ := h.docker("", "system", "df", "--format", "{{.Type}} {{.TotalCount}}"); strings.Contains(out, "Build Cache 0") {
		t.Errorf("df: %s", out)
	}
	if out, code := h.docker("", "builder", "prune", "-af"); code != 0 || !strings.Contains(out, "Total reclaimed space: ") || !strings.Contains(out, "Deleted build cache objects") {
		t.Errorf("prune ends with %d: %s", code, out)
	}
	if out, code := h.docker("", "run", "--rm", "--network", "none", "again"); code != 0 || out != limited {
		t.Errorf("an image whose cache was pruned, run, ends with %d: %q", code, out)
	}
}

func TestABuildThatFailsSaysWhich(t *testing.T) {
	h := newBusyboxHost(t)
	for dockerfile, want := range map[string]string{
		"FROM busybox\nRUN exit 7\n":    "The command '/bin/sh -c exit 7' returned a non-zero code: 7",
		"FROM busybox\nCOPY nosuch /\n": `"/nosuch": not found`,
		"FROM busybox\nNOSUCH\n":        "unknown instruction: NOSUCH",
	} {
		out, code := h.docker("", "build", writeContext(t, map[string]string{"Dockerfile": dockerfile}))
		if code == 0 || !strings.Contains(out, want) {
			t.Errorf("%q ends with %d: %s", dockerfile, code, out)
		}
	}
	if status, text := h.send("1.51", http.MethodPost, "/build?squash=1", ""); status != http.StatusBadRequest || !strings.Contains(text, "squash is only supported with experimental mode") {
		t.Errorf("squash: %d %s", status, text)
	}
}

// An image that loses its name to the next build stays, as with `docker tag`.
func TestABuildReplacesAName(t *testing.T) {
	h := newBusyboxHost(t)
	for _, label := range []string{"one", "two"} {
		if out, code := h.docker("", "build", "-q", "-t", "name", writeContext(t, map[string]string{"Dockerfile": "FROM busybox\nLABEL l=" + label + "\n"})); code != 0 || !strings.HasPrefix(lastLine(out), "sha256:") {
			t.Fatalf("build ends with %d: %s", code, out)
		}
	}
	if out, _ := h.docker("", "images", "--filter", "dangling=true", "--format", "{{.Repository}}"); out != "<none>\n" {
		t.Errorf("images without a name: %q", out)
	}
	if out, _ := h.docker("", "inspect", "name", "--format", "{{.Config.Labels.l}}"); out != "two\n" {
		t.Errorf("the name is of %q", out)
	}
}

func lastLine(text string) string {
	lines := strings.Split(strings.TrimSpace(text), "\n")
	return lines[len(lines)-1]
}

// A step went on when its client was gone.
func TestACancelledBuildEndsItsProcesses(t *testing.T) {
	h := newBusyboxHost(t)
	marker := fmt.Sprintf("%d", 100000+os.Getpid())
	dir := writeContext(t, map[string]string{"Dockerfile": "FROM busybox\nRUN echo begun && sleep " + marker + "\n"})
	bk, _ := h.buildkit()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	ended := make(chan error, 1)
	begun := make(chan *client.SolveStatus)
	go func() {
		_, err := bk.Solve(ctx, nil, solveOptions(t, dir, "cancelled"), begun)
		ended <- err
	}()
	for news := range begun {
		for _, l := range news.Logs {
			if strings.Contains(string(l.Data), "begun") {
				if len(processes(t, "sleep", marker)) == 0 {
					t.Error("the step does not run")
				}
				cancel()
			}
		}
	}
	if err := <-ended; err == nil {
		t.Error("a cancelled build succeeds")
	}
	for limit := time.Now().Add(20 * time.Second); len(processes(t, "sleep", marker)) > 0; {
		if time.Now().After(limit) {
			t.Fatal("the step's process runs on")
		}
	}
}

// processes is the folders in /proc of the processes of a command.
func processes(t *testing.T, command ...string) []string {
	t.Helper()
	all, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		t.Fatal(err)
	}
	var found []string
	for _, file := range all {
		if text, err := os.ReadFile(file); err == nil && string(text) == strings.Join(command, "\x00")+"\x00" {
			found = append(found, filepath.Dir(file))
		}
	}
	return found
}

// buildx speaks to BuildKit itself on /grpc and serves its files, secrets and credentials on /session.
func TestBuildxsWayOfBuilding(t *testing.T) {
	h := newBusyboxHost(t)
	dir := writeContext(t, map[string]string{"Dockerfile": "FROM busybox\nRUN --mount=type=secret,id=s cat /run/secrets/s > /copied\nCOPY file /\n", "file": "x"})
	bk, _ := h.buildkit()
	options := solveOptions(t, dir, "docker.io/library/byx:latest")
	options.Session = []session.Attachable{secretsprovider.FromMap(map[string][]byte{"s": []byte("hush")})}
	answer, err := bk.Solve(t.Context(), nil, options, nil)
	if err != nil {
		t.Fatal(err)
	}
	if out, code := h.docker("", "run", "--rm", "--network", "none", "byx", "cat", "/copied"); code != 0 || out != "hush" {
		t.Errorf("run ends with %d: %q", code, out)
	}
	id := answer.ExporterResponse["containerimage.config.digest"]
	if out, _ := h.docker("", "inspect", "byx", "--format", "{{.Id}}"); strings.TrimSpace(out) != id {
		t.Errorf("the image's ID is %s, and BuildKit says %s", out, id)
	}
}

// The classic endpoint with version=2 gives BuildKit's own news.
func TestBuildKitsNewsOnTheClassicWay(t *testing.T) {
	h := newBusyboxHost(t)
	dir := writeContext(t, map[string]string{"Dockerfile": "FROM busybox\nLABEL a=b\n"})
	_, dial := h.buildkit()
	s, err := session.NewSession(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	files, err := fsutil.NewFS(dir)
	if err != nil {
		t.Fatal(err)
	}
	s.Allow(filesync.NewFSSyncProvider(filesync.StaticDirSource{"context": files, "dockerfile": files}))
	go func() { _ = s.Run(t.Context(), dial) }()
	defer s.Close()
	status, text := h.send("1.51", http.MethodPost, "/build?version=2&remote=client-session&t=classic&session="+s.ID(), "")
	if status != http.StatusOK || !strings.Contains(text, `"moby.buildkit.trace"`) {
		t.Fatalf("%d: %s", status, text)
	}
	var last struct {
		ID  string
		Aux struct{ ID string }
	}
	if err := json.Unmarshal([]byte(lastLine(text)), &last); err != nil || last.ID != "moby.image.id" || !strings.HasPrefix(last.Aux.ID, "sha256:") {
		t.Errorf("%v: it ends with %s", err, lastLine(text))
	}
}

// buildkit is BuildKit's client as buildx uses it with the docker driver, and what opens sessions.
func (h *dockerHost) buildkit() (*client.Client, session.Dialer) {
	h.t.Helper()
	hijack := func(ctx context.Context, path string, header map[string][]string) (net.Conn, error) {
		conn, err := (&net.Dialer{}).DialContext(ctx, "unix", h.socket)
		if err != nil {
			return nil, err
		}
		r, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://docker"+path, nil)
		if err != nil {
			return nil, err
		}
		maps.Copy(r.Header, header)
		r.Header.Set("Connection", "Upgrade")
		r.Header.Set("Upgrade", "h2c")
		if err := r.Write(conn); err != nil {
			return nil, err
		}
		var head []byte
		for one := make([]byte, 1); !strings.HasSuffix(string(head), "\r\n\r\n"); {
			if _, err := conn.Read(one); err != nil {
				return nil, err
			}
			head = append(head, one[0])
		}
		if !strings.HasPrefix(string(head), "HTTP/1.1 101 ") {
			return nil, fmt.Errorf("%s: %s", path, head)
		}
		return conn, nil
	}
	sessions := func(ctx context.Context, _ string, meta map[string][]string) (net.Conn, error) {
		return hijack(ctx, "/session", meta)
	}
	bk, err := client.New(h.t.Context(), "", client.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return hijack(ctx, "/grpc", nil) }),
		client.WithSessionDialer(sessions))
	if err != nil {
		h.t.Fatal(err)
	}
	h.t.Cleanup(func() { _ = bk.Close() })
	return bk, sessions
}

// solveOptions builds the Dockerfile of a folder into an image of the node.
func solveOptions(t *testing.T, dir, name string) client.SolveOpt {
	t.Helper()
	files, err := fsutil.NewFS(dir)
	if err != nil {
		t.Fatal(err)
	}
	return client.SolveOpt{
		Frontend: "dockerfile.v0", LocalMounts: map[string]fsutil.FS{"context": files, "dockerfile": files},
		Exports: []client.ExportEntry{{Type: "moby", Attrs: map[string]string{"name": name}}},
	}
}

// The classic way gives the credentials of the user's registries with the request.
func TestABuildOnAPrivateImage(t *testing.T) {
	h := newBusyboxHost(t)
	private := registrytest.New(t, registrytest.Options{Username: "ann", Password: "secret", Tokens: true})
	paths, err := testimages.Build(t.Context(), testimages.CacheDir())
	if err != nil {
		t.Fatal(err)
	}
	archive, err := tarball.ImageFromPath(paths["busybox"], nil)
	if err != nil {
		t.Fatal(err)
	}
	registrytest.Upload(t, private, "team/box:1", archive)
	dir := writeContext(t, map[string]string{"Dockerfile": "FROM " + private.Addr() + "/team/box:1\nLABEL a=b\n"})
	if out, code := h.docker("", "build", "-t", "ours", dir); code == 0 || !strings.Contains(out, "team/box:1") {
		t.Errorf("without an account it ends with %d: %s", code, out)
	}
	settings := writeContext(t, map[string]string{"config.json": fmt.Sprintf(`{"auths":{%q:{"auth":%q}}}`, private.Addr(), base64.StdEncoding.EncodeToString([]byte("ann:secret")))})
	cmd := exec.CommandContext(t.Context(), "docker", "--config", settings, "-H", "unix://"+h.socket, "build", "-t", "ours", dir)
	if out, err := cmd.CombinedOutput(); err != nil || !strings.Contains(string(out), "Successfully tagged ours:latest") {
		t.Errorf("with an account: %v: %s", err, out)
	}
}
