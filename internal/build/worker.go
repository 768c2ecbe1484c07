package build

import (
	"context"
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	goruntime "runtime"
	"strings"

	"github.com/containerd/errdefs"
	"github.com/distribution/reference"
	"github.com/moby/buildkit/cache/metadata"
	"github.com/moby/buildkit/client"
	"github.com/moby/buildkit/exporter"
	"github.com/moby/buildkit/exporter/containerimage/exptypes"
	"github.com/moby/buildkit/session"
	containerdsnapshot "github.com/moby/buildkit/snapshot/containerd"
	"github.com/moby/buildkit/source/http"
	"github.com/moby/buildkit/util/archutil"
	"github.com/moby/buildkit/util/leaseutil"
	"github.com/moby/buildkit/util/winlayers"
	"github.com/moby/buildkit/worker/base"
	wlabel "github.com/moby/buildkit/worker/label"
	"golang.org/x/sync/semaphore"

	"github.com/shoal-dev/shoal/internal/runtime"
)

// mobyExporter is what Docker's clients call the exporter to the node's own images.
const mobyExporter = "moby"

// hostGatewayLabel tells Docker's clients what "host-gateway" stands for in extra hosts.
const hostGatewayLabel = "org.mobyproject.buildkit.worker.moby.host-gateway-ip"

// imageWorker is BuildKit's worker with an exporter to the node's images.
type imageWorker struct{ *base.Worker }

// newWorker makes the worker: BuildKit's cache, sources and processes on our containerd.
func (b *Builder) newWorker(ctx context.Context) (_ *imageWorker, err error) {
	id, err := base.ID(b.Root)
	if err != nil {
		return nil, err
	}
	records, err := metadata.NewStore(filepath.Join(b.Root, "metadata_v2.db"))
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			_ = records.Close()
		}
	}()
	executor, err := b.newExecutor()
	if err != nil {
		return nil, err
	}
	policy, err := b.GC.policy(b.Root)
	if err != nil {
		return nil, err
	}
	c := b.Runtime.Client
	blobs := containerdsnapshot.NewContentStore(c.ContentStore(), runtime.Namespace)
	leases := leaseutil.WithNamespace(c.LeasesService(), runtime.Namespace)
	diff := differ{c.DiffService(), c.DiffService()}
	w, err := base.NewWorker(ctx, base.WorkerOpt{
		ID: id, Root: b.Root, Labels: b.workerLabels(), ParallelismSem: semaphore.NewWeighted(parallelSteps()), Platforms: archutil.SupportedPlatforms(true), GCPolicy: policy,
		MetadataStore: records, Executor: executor, ContentStore: blobs, LeaseManager: leases, GarbageCollect: collector(leases),
		Snapshotter: containerdsnapshot.NewSnapshotter(runtime.Snapshotter, c.SnapshotService(runtime.Snapshotter), runtime.Namespace, nil),
		Applier:     winlayers.NewFileSystemApplierWithWindows(blobs, diff), Differ: winlayers.NewWalkingDiffWithWindows(blobs, diff),
		ImageStore: b.Images.Records(), RegistryHosts: b.Registries.Hosts, MountPoolRoot: filepath.Join(b.State, "cachemounts"),
	})
	if err != nil {
		return nil, err
	}
	archives, err := http.NewSource(http.Opt{CacheAccessor: w.CacheManager(), Transport: &b.bodies})
	if err != nil {
		return nil, err
	}
	w.SourceManager.Register(archives)
	return &imageWorker{w}, nil
}

// parallelSteps is how many steps run at once, of all builds: more would only wait for one another, and each has a process that may want the machine for itself.
func parallelSteps() int64 {
	const least, perCPU = 4, 2
	return int64(max(least, perCPU*goruntime.NumCPU()))
}

func (b *Builder) workerLabels() map[string]string {
	hostname, err := os.Hostname()
	if err != nil {
		hostname = "unknown"
	}
	labels := map[string]string{wlabel.Executor: "oci", wlabel.Snapshotter: runtime.Snapshotter, wlabel.Hostname: hostname, wlabel.Network: "sandbox"}
	for _, addr := range b.hostGateways() { // clients read one only
		if labels[hostGatewayLabel] == "" || addr.Is4() {
			labels[hostGatewayLabel] = addr.String()
		}
	}
	return labels
}

// hostGateways is the node's addresses for steps.
func (b *Builder) hostGateways() []netip.Addr {
	if b.HostGateways == nil {
		return nil
	}
	return b.HostGateways()
}

// Exporter implements worker.Worker.
func (w *imageWorker) Exporter(name string, sm *session.Manager) (exporter.Exporter, error) {
	if name != mobyExporter {
		return w.Worker.Exporter(name, sm)
	}
	to, err := w.Worker.Exporter(client.ExporterImage, sm)
	return imageExporter{to}, err
}

// imageExporter exports to the node's images, under names as they have them.
type imageExporter struct{ exporter.Exporter }

// Resolve implements exporter.Exporter.
func (e imageExporter) Resolve(ctx context.Context, id int, attrs map[string]string) (exporter.ExporterInstance, error) {
	all := map[string]string{string(exptypes.OptKeyUnpack): "true", string(exptypes.OptKeyDanglingPrefix): "dangling"}
	maps.Copy(all, attrs)
	all[string(exptypes.OptKeyDanglingEmptyOnly)] = "true"
	names, err := fullNames(strings.Split(attrs[string(exptypes.OptKeyName)], ","))
	if err != nil {
		return nil, err
	}
	all[string(exptypes.OptKeyName)] = strings.Join(names, ",")
	return e.Exporter.Resolve(ctx, id, all)
}

// fullNames is the names as images have them ("docker.io/library/nginx:latest"), each once, without empty ones.
func fullNames(names []string) ([]string, error) {
	var full []string
	seen := map[string]bool{"": true}
	for _, name := range names {
		if name == "" {
			continue
		}
		named, err := reference.ParseNormalizedNamed(name)
		if err != nil {
			return nil, errdefs.ErrInvalidArgument.WithMessage(err.Error())
		}
		if _, digested := named.(reference.Digested); digested {
			return nil, errdefs.ErrInvalidArgument.WithMessage("build tag cannot contain a digest")
		}
		if text := reference.TagNameOnly(named).String(); !seen[text] {
			seen[text] = true
			full = append(full, text)
		}
	}
	return full, nil
}
