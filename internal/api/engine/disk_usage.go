package engine

import (
	"net/http"

	apicontainer "github.com/moby/moby/api/types/container"
	apiimage "github.com/moby/moby/api/types/image"
	apivolume "github.com/moby/moby/api/types/volume"

	"github.com/shoal-dev/shoal/internal/api/server"
	"github.com/shoal-dev/shoal/internal/container"
	"github.com/shoal-dev/shoal/internal/volume"
)

// diskUsage serves /system/df.
type diskUsage struct {
	containers *container.Engine
	images     *images
	volumes    *volume.Store
}

// diskUsageResponse is the answer in the form that API versions up to MaxVersion have; moby's type is of a newer one.
type diskUsageResponse struct {
	LayersSize  int64
	Images      []apiimage.Summary
	Containers  []apicontainer.Summary
	Volumes     []apivolume.Volume
	BuildCache  []struct{}
	BuilderSize int64
}

func (u *diskUsage) Register(rt *server.Router) {
	rt.Handle("GET /system/df", u.usage)
}

func (u *diskUsage) usage(w http.ResponseWriter, r *http.Request) error {
	images, err := u.images.store.List(r.Context())
	if err != nil {
		return err
	}
	out := diskUsageResponse{Images: []apiimage.Summary{}, Containers: []apicontainer.Summary{}, Volumes: []apivolume.Volume{}, BuildCache: []struct{}{}}
	for _, img := range images {
		out.Images = append(out.Images, u.images.toAPISummary(img))
		out.LayersSize += img.Size // layers that images share count in each, so this is an upper bound
	}
	for _, info := range u.containers.List(nil) {
		out.Containers = append(out.Containers, toAPIContainerSummary(info))
	}
	for _, v := range u.volumes.List() {
		shown := toAPIVolume(v)
		shown.UsageData = &apivolume.UsageData{RefCount: int64(len(u.volumes.Users(v.Name))), Size: volume.Size(v)}
		out.Volumes = append(out.Volumes, shown)
	}
	return server.WriteJSON(w, http.StatusOK, out)
}
