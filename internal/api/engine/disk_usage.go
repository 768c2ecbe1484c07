package engine

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"

	apibuild "github.com/moby/moby/api/types/build"
	apicontainer "github.com/moby/moby/api/types/container"
	apiimage "github.com/moby/moby/api/types/image"
	"github.com/moby/moby/api/types/system"
	apivolume "github.com/moby/moby/api/types/volume"

	"github.com/shoal-dev/shoal/internal/api/server"
	"github.com/shoal-dev/shoal/internal/api/version"
	"github.com/shoal-dev/shoal/internal/build"
	"github.com/shoal-dev/shoal/internal/container"
	"github.com/shoal-dev/shoal/internal/image"
	"github.com/shoal-dev/shoal/internal/volume"
)

// diskUsage serves /system/df.
type diskUsage struct {
	containers *container.Engine
	images     *images
	volumes    *volume.Store
	cache      func(context.Context) ([]build.Record, error) // of builds
}

// diskUsageResponse is the usage by kind, and beside it, unless the client asks for details in the new form, what there was before. Of a kind that is not
// asked for there is nothing.
type diskUsageResponse struct {
	system.DiskUsage
	LayersSize int64
	Images     []apiimage.Summary     `json:",omitzero"`
	Containers []apicontainer.Summary `json:",omitzero"`
	Volumes    []apivolume.Volume     `json:",omitzero"`
	BuildCache []apibuild.CacheRecord `json:",omitzero"`
}

func (u *diskUsage) Register(rt *server.Router) {
	rt.Handle("GET /system/df", u.usage)
}

func (u *diskUsage) usage(w http.ResponseWriter, r *http.Request) error {
	if err := r.ParseForm(); err != nil {
		return server.BadRequest("%v", err)
	}
	kinds := r.Form["type"]
	for _, k := range kinds {
		if !slices.Contains([]string{"container", "image", "volume", "build-cache"}, k) {
			return server.BadRequest("unknown object type: %s", k)
		}
	}
	wants := func(kind string) bool { return len(kinds) == 0 || slices.Contains(kinds, kind) }
	var out diskUsageResponse
	var err error
	if wants("image") {
		if out.ImageUsage, err = u.imageUsage(r.Context()); err != nil {
			return err
		}
	}
	if wants("container") {
		out.ContainerUsage = u.containerUsage(r.Context())
	}
	if wants("volume") {
		out.VolumeUsage = u.volumeUsage()
	}
	if wants("build-cache") {
		if out.BuildCacheUsage, err = u.cacheUsage(r.Context()); err != nil {
			return err
		}
	}
	verbose := server.BoolParam(r, "verbose") && !version.Before(r.Context(), "1.52")
	out.inBothForms(verbose)
	return server.WriteJSON(w, http.StatusOK, out)
}

// inBothForms moves the details to where older clients look for them, unless the request is for them in the new form.
func (d *diskUsageResponse) inBothForms(verbose bool) {
	if verbose {
		return
	}
	if i := d.ImageUsage; i != nil {
		d.LayersSize, d.Images, i.Items = i.TotalSize, i.Items, nil
	}
	if c := d.ContainerUsage; c != nil {
		d.Containers, c.Items = c.Items, nil
	}
	if v := d.VolumeUsage; v != nil {
		d.Volumes, v.Items = v.Items, nil
	}
	if b := d.BuildCacheUsage; b != nil {
		d.BuildCache, b.Items = b.Items, nil
	}
}

func (u *diskUsage) imageUsage(ctx context.Context) (*apiimage.DiskUsage, error) {
	all, err := u.images.store.List(ctx)
	if err != nil {
		return nil, err
	}
	out := &apiimage.DiskUsage{Items: []apiimage.Summary{}, TotalCount: int64(len(all))}
	layers := layersOf(ctx, u.images.store, all)
	for _, img := range all {
		s := u.images.toAPISummary(img)
		s.Size, s.SharedSize = 0, 0
		chain := layers.chains[img.ID]
		for i, size := range chain.sizes {
			s.Size += size
			if layers.images[chain.ids[i]] > 1 {
				s.SharedSize += size
			}
		}
		if s.Containers > 0 {
			out.ActiveCount++
		} else {
			out.Reclaimable += s.Size - s.SharedSize
		}
		out.Items = append(out.Items, s)
	}
	for _, size := range layers.sizes {
		out.TotalSize += size
	}
	return out, nil
}

// layers is the layers of all images, each once.
type layers struct {
	chains map[string]chain // by the images' IDs
	images map[string]int   // how many images have a layer
	sizes  map[string]int64 // bytes
}

// chain is the layers of one image in their order.
type chain struct {
	ids   []string
	sizes []int64
}

func layersOf(ctx context.Context, store *image.Store, all []*image.Image) layers {
	l := layers{chains: map[string]chain{}, images: map[string]int{}, sizes: map[string]int64{}}
	for _, img := range all {
		if _, seen := l.chains[img.ID]; seen {
			continue
		}
		c := chain{sizes: store.LayerSizes(ctx, img)}
		var chainID strings.Builder
		for i, d := range img.Spec.RootFS.DiffIDs {
			_, _ = chainID.WriteString(d.String()) // a layer on others is another one than on none
			id := chainID.String()
			c.ids = append(c.ids, id)
			l.images[id]++
			l.sizes[id] = c.sizes[i]
		}
		l.chains[img.ID] = c
	}
	return l
}

func (u *diskUsage) containerUsage(ctx context.Context) *apicontainer.DiskUsage {
	out := &apicontainer.DiskUsage{Items: []apicontainer.Summary{}}
	for _, info := range u.containers.List(nil) {
		s := toAPIContainerSummary(info)
		if written, total, err := u.containers.Size(ctx, info.ID); err == nil { // else it has been removed meanwhile
			s.SizeRw, s.SizeRootFs = written, total
		}
		out.TotalCount++
		out.TotalSize += s.SizeRw
		if isRunning(info) {
			out.ActiveCount++
		} else {
			out.Reclaimable += s.SizeRw
		}
		out.Items = append(out.Items, s)
	}
	return out
}

func (u *diskUsage) volumeUsage() *apivolume.DiskUsage {
	out := &apivolume.DiskUsage{Items: []apivolume.Volume{}}
	for _, v := range u.volumes.List() {
		shown := toAPIVolume(v)
		shown.UsageData = &apivolume.UsageData{RefCount: int64(len(u.volumes.Users(v.Name))), Size: volume.Size(v)}
		out.TotalCount++
		out.TotalSize += shown.UsageData.Size
		if shown.UsageData.RefCount > 0 {
			out.ActiveCount++
		} else {
			out.Reclaimable += shown.UsageData.Size
		}
		out.Items = append(out.Items, shown)
	}
	return out
}

func (u *diskUsage) cacheUsage(ctx context.Context) (*apibuild.DiskUsage, error) {
	records, err := u.cache(ctx)
	if err != nil {
		return nil, fmt.Errorf("error getting build cache usage: %w", err)
	}
	out := &apibuild.DiskUsage{Items: []apibuild.CacheRecord{}, TotalCount: int64(len(records))}
	for _, r := range records {
		out.TotalSize += r.Size
		if r.InUse {
			out.ActiveCount++
		} else if !r.Shared {
			out.Reclaimable += r.Size
		}
		shown := apibuild.CacheRecord{
			ID: r.ID, Parents: r.Parents, Type: r.Type, Description: r.Description, InUse: r.InUse, Shared: r.Shared, Size: r.Size, CreatedAt: r.CreatedAt, UsageCount: r.UsageCount,
		}
		if !r.LastUsedAt.IsZero() {
			shown.LastUsedAt = &r.LastUsedAt
		}
		out.Items = append(out.Items, shown)
	}
	return out, nil
}
