package api

import (
	"net/http"
	"slices"
	"strings"
	"time"

	apivolume "github.com/moby/moby/api/types/volume"

	"github.com/shoal-dev/shoal/internal/volume"
)

// volumeAPI serves /volumes.
type volumeAPI struct{ volumes *volume.Store }

func (a *volumeAPI) register(rt *router) {
	rt.handle("GET /volumes", a.list)
	rt.handle("POST /volumes/create", a.create)
	rt.handle("POST /volumes/prune", a.prune)
	rt.handle("GET /volumes/{name}", a.inspect)
	rt.handle("DELETE /volumes/{name}", a.remove)
}

func volumeOf(v *volume.Volume) apivolume.Volume {
	return apivolume.Volume{Name: v.Name, Driver: v.Driver, Mountpoint: v.Mountpoint, CreatedAt: v.CreatedAt.Format(time.RFC3339), Labels: v.Labels, Options: v.Options, Scope: "local"}
}

func (a *volumeAPI) list(w http.ResponseWriter, r *http.Request) error {
	f, err := readFilters(r, "dangling", "driver", "label", "name")
	if err != nil {
		return err
	}
	out := apivolume.ListResponse{Volumes: []apivolume.Volume{}, Warnings: []string{}}
	for _, v := range a.volumes.List() {
		unused := len(a.volumes.Users(v.Name)) == 0
		if f.any("name", func(p string) bool { return strings.Contains(v.Name, p) }) && f.any("driver", func(d string) bool { return d == v.Driver }) &&
			f.any("dangling", func(t string) bool { return (t == "true" || t == "1") == unused }) && f.labelled(v.Labels) {
			out.Volumes = append(out.Volumes, volumeOf(v))
		}
	}
	return writeJSON(w, http.StatusOK, out)
}

func (a *volumeAPI) create(w http.ResponseWriter, r *http.Request) error {
	body := apivolume.CreateRequest{}
	if err := readJSON(r, &body); err != nil {
		return err
	}
	v, err := a.volumes.Create(volume.Spec{Name: body.Name, Driver: body.Driver, Labels: body.Labels, Options: body.DriverOpts})
	if err != nil {
		return err
	}
	return writeJSON(w, http.StatusCreated, volumeOf(v))
}

func (a *volumeAPI) inspect(w http.ResponseWriter, r *http.Request) error {
	v, err := a.volumes.Get(r.PathValue("name"))
	if err != nil {
		return err
	}
	return writeJSON(w, http.StatusOK, volumeOf(v))
}

func (a *volumeAPI) remove(w http.ResponseWriter, r *http.Request) error {
	return noContent(w, a.volumes.Remove(r.PathValue("name"), flag(r, "force")))
}

func (a *volumeAPI) prune(w http.ResponseWriter, r *http.Request) error {
	f, err := readFilters(r, "all", "label", "label!")
	if err != nil {
		return err
	}
	all := slices.Contains(f["all"], "true") || slices.Contains(f["all"], "1")
	removed, freed, err := a.volumes.Prune(all, func(v *volume.Volume) bool { return !f.labelled(v.Labels) })
	if err != nil {
		return err
	}
	if removed == nil {
		removed = []string{}
	}
	return writeJSON(w, http.StatusOK, map[string]any{"VolumesDeleted": removed, "SpaceReclaimed": freed})
}

// untilOf is the moment that the filter of that name means; zero if there is none.
func untilOf(f filters) time.Time {
	for _, v := range f["until"] {
		if t, ok := parseTime(v, time.Now()); ok {
			return t
		}
	}
	return time.Time{}
}
