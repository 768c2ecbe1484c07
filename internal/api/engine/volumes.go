package engine

import (
	"net/http"
	"time"

	apivolume "github.com/moby/moby/api/types/volume"

	"github.com/shoal-dev/shoal/internal/api/server"
	"github.com/shoal-dev/shoal/internal/events"
	"github.com/shoal-dev/shoal/internal/volume"
)

// volumes serves /volumes.
type volumes struct {
	store  *volume.Store
	events *events.Bus
}

func (a *volumes) Register(rt *server.Router) {
	rt.Handle("GET /volumes", a.list)
	rt.Handle("POST /volumes/create", a.create)
	rt.Handle("POST /volumes/prune", a.prune)
	rt.Handle("GET /volumes/{name}", a.inspect)
	rt.Handle("PUT /volumes/{name}", func(http.ResponseWriter, *http.Request) error { return errNoClusterVolumes() })
	rt.Handle("DELETE /volumes/{name}", a.remove)
}

// errNoClusterVolumes refuses volumes of the cluster: there are no plugins that could have them.
func errNoClusterVolumes() error {
	return server.Errorf(http.StatusNotImplemented, "cluster volumes: not supported by this engine, which has no CSI plugins")
}

func toAPIVolume(v *volume.Volume) apivolume.Volume {
	return apivolume.Volume{Name: v.Name, Driver: v.Driver, Mountpoint: v.Mountpoint, CreatedAt: v.CreatedAt.Format(time.RFC3339), Labels: v.Labels, Options: v.Options, Scope: "local"}
}

func (a *volumes) list(w http.ResponseWriter, r *http.Request) error {
	f, err := server.ReadFilters(r, "dangling", "driver", "label", "name")
	if err != nil {
		return err
	}
	dangling, given, err := f.Bool("dangling")
	if err != nil {
		return err
	}
	out := apivolume.ListResponse{Volumes: []apivolume.Volume{}, Warnings: []string{}}
	for _, v := range a.store.List() {
		unused := len(a.store.Users(v.Name)) == 0
		if f.Match("name", v.Name) && f.Equal("driver", v.Driver) && (!given || dangling == unused) && f.Labels(v.Labels) {
			out.Volumes = append(out.Volumes, toAPIVolume(v))
		}
	}
	return server.WriteJSON(w, http.StatusOK, out)
}

func (a *volumes) create(w http.ResponseWriter, r *http.Request) error {
	body := apivolume.CreateRequest{}
	if err := server.ReadJSON(r, &body); err != nil {
		return err
	}
	if body.ClusterVolumeSpec != nil {
		return errNoClusterVolumes()
	}
	v, err := a.store.Create(volume.Spec{Name: body.Name, Driver: body.Driver, Labels: body.Labels, Options: body.DriverOpts})
	if err != nil {
		return err
	}
	return server.WriteJSON(w, http.StatusCreated, toAPIVolume(v))
}

func (a *volumes) inspect(w http.ResponseWriter, r *http.Request) error {
	v, err := a.store.Get(r.PathValue("name"))
	if err != nil {
		return err
	}
	return server.WriteJSON(w, http.StatusOK, toAPIVolume(v))
}

func (a *volumes) remove(w http.ResponseWriter, r *http.Request) error {
	return server.NoContent(w, a.store.Remove(r.PathValue("name"), server.BoolParam(r, "force")))
}

func (a *volumes) prune(w http.ResponseWriter, r *http.Request) error {
	f, err := server.ReadPruneFilters(r, "all")
	if err != nil {
		return err
	}
	all, _, err := f.Bool("all")
	if err != nil {
		return err
	}
	removed, freed, err := a.store.Prune(all, func(v *volume.Volume) bool { return !f.Labels(v.Labels) })
	if err != nil {
		return err
	}
	if removed == nil {
		removed = []string{}
	}
	publishPrune(a.events, "volume", freed)
	return server.WriteJSON(w, http.StatusOK, map[string]any{"VolumesDeleted": removed, "SpaceReclaimed": freed})
}
