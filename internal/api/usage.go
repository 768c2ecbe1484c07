package api

import (
	"net/http"

	apicontainer "github.com/moby/moby/api/types/container"
	apiimage "github.com/moby/moby/api/types/image"
	apivolume "github.com/moby/moby/api/types/volume"

	"github.com/shoal-dev/shoal/internal/volume"
)

// usages serves /system/df.
type usages struct {
	containers *containers
	images     *imageAPI
	volumes    *volumeAPI
}

// diskUsage is the answer in the form that API versions up to ours have.
type diskUsage struct {
	LayersSize  int64
	Images      []apiimage.Summary
	Containers  []apicontainer.Summary
	Volumes     []apivolume.Volume
	BuildCache  []struct{}
	BuilderSize int64
}

func (u *usages) register(rt *router) {
	rt.handle("GET /system/df", u.usage)
	rt.handle("POST /build/prune", u.pruneBuilds)
}

// pruneBuilds has nothing to do: there is no builder here, and so no cache of one. `docker system prune` asks all the same.
func (u *usages) pruneBuilds(w http.ResponseWriter, _ *http.Request) error {
	return writeJSON(w, http.StatusOK, map[string]any{"CachesDeleted": []string{}, "SpaceReclaimed": 0})
}

func (u *usages) usage(w http.ResponseWriter, r *http.Request) error {
	all, err := u.images.images.List(r.Context())
	if err != nil {
		return err
	}
	out := diskUsage{Images: []apiimage.Summary{}, Containers: []apicontainer.Summary{}, Volumes: []apivolume.Volume{}, BuildCache: []struct{}{}}
	for _, img := range all {
		out.Images = append(out.Images, u.images.summary(img))
		out.LayersSize += img.Size // layers that images share count in each: the CLI shows an upper bound
	}
	for _, info := range u.containers.engine.List(nil) {
		out.Containers = append(out.Containers, summaryOf(info))
	}
	for _, v := range u.volumes.volumes.List() {
		one := volumeOf(v)
		one.UsageData = &apivolume.UsageData{RefCount: int64(len(u.volumes.volumes.Users(v.Name))), Size: volume.Size(v)}
		out.Volumes = append(out.Volumes, one)
	}
	return writeJSON(w, http.StatusOK, out)
}
