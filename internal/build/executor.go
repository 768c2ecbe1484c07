package build

import (
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"

	"github.com/containerd/containerd/v2/core/mount"
	"github.com/moby/buildkit/executor"
	"github.com/moby/buildkit/executor/resources"
	resourcestypes "github.com/moby/buildkit/executor/resources/types"
	"github.com/moby/buildkit/executor/runcexecutor"
	"github.com/moby/buildkit/identity"
	"github.com/moby/buildkit/solver/pb"
	"github.com/moby/buildkit/util/network"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/shoal-dev/shoal/internal/fault"
	"github.com/shoal-dev/shoal/internal/shoal"
)

// newExecutor makes what runs the processes of a build's steps.
func (b *Builder) newExecutor() (executor.Executor, error) {
	for _, dir := range []string{b.stepsDir(), b.sandboxesDir(), b.stepsState()} {
		if err := os.MkdirAll(dir, 0o711); err != nil { // #nosec G301 -- steps' file systems are below
			return nil, err
		}
	}
	monitor, err := resources.NewMonitor()
	if err != nil {
		return nil, err
	}
	steps, err := runcexecutor.New(runcexecutor.Opt{
		Root: b.stepsDir(), CommandCandidates: []string{b.runc()}, DefaultCgroupParent: b.CgroupParent, ResourceMonitor: monitor,
	}, map[pb.NetMode]network.Provider{
		pb.NetMode_UNSET: sandboxes{b}, pb.NetMode_HOST: network.NewHostProvider(), pb.NetMode_NONE: network.NewNoneProvider(),
	})
	if err != nil {
		return nil, err
	}
	return contained{steps, b.Log}, nil
}

// contained makes a panic of a step's goroutine an error of the step.
type contained struct {
	executor.Executor
	log *slog.Logger
}

// Run implements executor.Executor.
func (c contained) Run(ctx context.Context, id string, rootfs executor.Mount, mounts []executor.Mount, process executor.ProcessInfo, started chan<- struct{}) (recorder resourcestypes.Recorder, err error) {
	err = fault.Contain(c.log, "step of a build", func() error {
		recorder, err = c.Executor.Run(ctx, id, rootfs, mounts, process, started)
		return err
	})
	return recorder, err
}

// Exec implements executor.Executor.
func (c contained) Exec(ctx context.Context, id string, process executor.ProcessInfo) error {
	return fault.Contain(c.log, "process in a step of a build", func() error { return c.Executor.Exec(ctx, id, process) })
}

// stepsDir has a folder for each step that runs, named by the ID that runc knows it by.
func (b *Builder) stepsDir() string { return filepath.Join(b.State, "steps") }

// sandboxesDir has a file for each sandbox, named by its ID.
func (b *Builder) sandboxesDir() string { return filepath.Join(b.State, "net") }

// Clean removes what a daemon that was killed has left of the steps that ran: processes, mounts, cgroups and sandboxes. Call it at the daemon's start, before
// anything is built. It does nothing where nothing was built.
func (b *Builder) Clean(ctx context.Context) error {
	var errs []error
	for _, id := range entries(b.stepsDir()) {
		dir := filepath.Join(b.stepsDir(), id)
		if info, err := os.Stat(filepath.Join(dir, "config.json")); err == nil && info.Mode().IsRegular() {
			_ = exec.CommandContext(ctx, b.Runtime.OCI, "--root", b.stepsState(), "delete", "--force", id).Run() // #nosec G204 -- our own program; a step that runc does not know has no process
		}
		errs = append(errs, mount.UnmountRecursive(dir, unix.MNT_DETACH))
	}
	errs = append(errs, mount.UnmountRecursive(b.State, unix.MNT_DETACH))
	for _, id := range entries(b.sandboxesDir()) {
		errs = append(errs, b.Network.Down(ctx, id))
	}
	if err := errors.Join(errs...); err != nil {
		return err
	}
	b.removeCgroups()
	return os.RemoveAll(b.State)
}

// entries is the names in a folder; none if there is no such folder.
func entries(dir string) []string {
	found, err := os.ReadDir(dir)
	if err != nil {
		return nil
	}
	var names []string
	for _, e := range found {
		names = append(names, e.Name())
	}
	return names
}

// sandboxes gives steps sandboxes on the default bridge.
type sandboxes struct{ b *Builder }

// New implements network.Provider.
func (s sandboxes) New(ctx context.Context, hostname string, _ network.NamespaceOptions) (network.Namespace, error) {
	id := identity.NewID()
	if err := os.WriteFile(filepath.Join(s.b.sandboxesDir(), id), nil, 0o600); err != nil { // first, so that Clean finds it
		return nil, err
	}
	up, err := s.b.Network.Up(ctx, shoal.SandboxSpec{ContainerID: id, Name: "build-" + id[:12], Hostname: hostname})
	if err != nil {
		return nil, errors.Join(err, s.remove(context.WithoutCancel(ctx), id))
	}
	return &sandbox{s, id, up}, nil
}

// Close implements network.Provider.
func (sandboxes) Close() error { return nil }

func (s sandboxes) remove(ctx context.Context, id string) error {
	if err := s.b.Network.Down(ctx, id); err != nil {
		return err
	}
	err := os.Remove(filepath.Join(s.b.sandboxesDir(), id))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// sandbox is the network of one step's process.
type sandbox struct {
	of sandboxes
	id string
	up shoal.Sandbox
}

// Set implements network.Namespace: the process joins the sandbox and has its name servers.
func (n *sandbox) Set(spec *specs.Spec) error {
	for i := range spec.Linux.Namespaces {
		if spec.Linux.Namespaces[i].Type == specs.NetworkNamespace {
			spec.Linux.Namespaces[i].Path = n.up.Netns
		}
	}
	for i := range spec.Mounts {
		if spec.Mounts[i].Destination == "/etc/resolv.conf" && n.up.ResolvConf != "" {
			spec.Mounts[i].Source = n.up.ResolvConf
		}
	}
	return nil
}

// Close implements network.Namespace.
func (n *sandbox) Close() error { return n.of.remove(context.Background(), n.id) }

// Sample implements network.Namespace.
func (*sandbox) Sample() (*resourcestypes.NetworkSample, error) { return nil, nil }
