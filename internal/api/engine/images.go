package engine

import (
	"net/http"
	"path"
	"slices"
	"strings"

	"github.com/distribution/reference"
	apiimage "github.com/moby/moby/api/types/image"

	"github.com/shoal-dev/shoal/internal/api/server"
	"github.com/shoal-dev/shoal/internal/events"
	"github.com/shoal-dev/shoal/internal/image"
)

// images serves /images.
type images struct {
	store *image.Store
	// usedBy is the IDs of the containers that were created from an image.
	usedBy func(imageID string) []string
	events *events.Bus
}

func (a *images) Register(rt *server.Router) {
	rt.Handle("GET /images/json", a.list)
	rt.Handle("POST /images/create", a.create)
	rt.Handle("POST /images/load", a.load)
	rt.Handle("GET /images/get", a.save)
	rt.Handle("POST /images/prune", a.prune)
	// The name of an image can hold slashes, which a wildcard of http.ServeMux matches only at the end of a path. The handlers split
	// what follows the name off themselves.
	rt.Handle("GET /images/{rest...}", a.routeGet)
	rt.Handle("POST /images/{rest...}", a.routePost)
	rt.Handle("DELETE /images/{rest...}", a.remove)
}

func (a *images) routeGet(w http.ResponseWriter, r *http.Request) error {
	name, action := splitAction(r)
	switch action {
	case "json":
		return a.inspect(w, r, name)
	case "history":
		return a.history(w, r, name)
	case "get":
		return a.export(w, r, []string{name})
	}
	return server.Errorf(http.StatusNotFound, "page not found")
}

func (a *images) routePost(w http.ResponseWriter, r *http.Request) error {
	name, action := splitAction(r)
	switch action {
	case "tag":
		return a.tag(w, r, name)
	case "push":
		return a.push(w, r, name)
	}
	return server.Errorf(http.StatusNotFound, "page not found")
}

// splitAction splits the path of a request into the name of an image and the action on it.
func splitAction(r *http.Request) (name, action string) {
	name, action = path.Split(r.PathValue("rest"))
	return strings.TrimSuffix(name, "/"), action
}

func (a *images) list(w http.ResponseWriter, r *http.Request) error {
	f, err := server.ReadFilters(r, "before", "dangling", "label", "reference", "since", "until")
	if err != nil {
		return err
	}
	all, err := a.store.List(r.Context())
	if err != nil {
		return err
	}
	out := []apiimage.Summary{}
	for _, img := range all {
		tags := img.RepoTags()
		dangling := len(tags) == 0
		matches := f.Any("reference", func(pattern string) bool {
			return slices.ContainsFunc(tags, func(tag string) bool { return referenceMatches(pattern, tag) })
		}) && f.True("dangling", dangling) && f.Labels(img.Spec.Config.Labels)
		if matches {
			out = append(out, a.toAPISummary(img))
		}
	}
	return server.WriteJSON(w, http.StatusOK, out)
}

// referenceMatches tells whether a tag, such as "busybox:latest", fits a pattern of path.Match.
func referenceMatches(pattern, tag string) bool {
	ref, err := reference.ParseNormalizedNamed(tag)
	if err != nil {
		return false
	}
	ok, err := reference.FamiliarMatch(pattern, ref)
	return ok && err == nil
}

func (a *images) toAPISummary(img *image.Image) apiimage.Summary {
	s := apiimage.Summary{
		ID: img.ID, RepoTags: img.RepoTags(), RepoDigests: img.RepoDigests(), Labels: img.Spec.Config.Labels, Size: img.Size, SharedSize: -1,
		Containers: int64(len(a.usedBy(img.ID))),
	}
	if img.Spec.Created != nil {
		s.Created = img.Spec.Created.Unix()
	}
	return s
}

func (a *images) inspect(w http.ResponseWriter, r *http.Request, name string) error {
	img, err := a.store.Get(r.Context(), name)
	if err != nil {
		return err
	}
	config := img.Spec.Config
	out := apiimage.InspectResponse{
		ID: img.ID, RepoTags: img.RepoTags(), RepoDigests: img.RepoDigests(), Author: img.Spec.Author, Config: &config,
		Architecture: img.Spec.Architecture, Variant: img.Spec.Variant, Os: img.Spec.OS, OsVersion: img.Spec.OSVersion, Size: img.Size,
		RootFS: apiimage.RootFS{Type: img.Spec.RootFS.Type},
	}
	if img.Spec.Created != nil {
		out.Created = timestamp(*img.Spec.Created)
	}
	for _, d := range img.Spec.RootFS.DiffIDs {
		out.RootFS.Layers = append(out.RootFS.Layers, d.String())
	}
	return server.WriteJSON(w, http.StatusOK, out)
}

func (a *images) history(w http.ResponseWriter, r *http.Request, name string) error {
	img, err := a.store.Get(r.Context(), name)
	if err != nil {
		return err
	}
	out := []apiimage.HistoryResponseItem{}
	for _, h := range slices.Backward(img.Spec.History) {
		item := apiimage.HistoryResponseItem{ID: "<missing>", CreatedBy: h.CreatedBy, Comment: h.Comment}
		if h.Created != nil {
			item.Created = h.Created.Unix()
		}
		if len(out) == 0 {
			item.ID, item.Tags = img.ID, img.RepoTags()
		}
		if !h.EmptyLayer && len(img.Spec.RootFS.DiffIDs) == 1 {
			item.Size = img.Size
		}
		out = append(out, item)
	}
	return server.WriteJSON(w, http.StatusOK, out)
}

func (a *images) tag(w http.ResponseWriter, r *http.Request, name string) error {
	target := r.FormValue("repo")
	if tag := r.FormValue("tag"); tag != "" {
		target += ":" + tag
	}
	if err := a.store.Tag(r.Context(), name, target); err != nil {
		return err
	}
	w.WriteHeader(http.StatusCreated)
	return nil
}

func (a *images) remove(w http.ResponseWriter, r *http.Request) error {
	removed, err := a.store.Remove(r.Context(), r.PathValue("rest"), server.BoolParam(r, "force"))
	if err != nil {
		return err
	}
	return server.WriteJSON(w, http.StatusOK, toAPIDeleted(removed))
}

func toAPIDeleted(removed []image.Removed) []apiimage.DeleteResponse {
	out := []apiimage.DeleteResponse{}
	for _, d := range removed {
		out = append(out, apiimage.DeleteResponse{Untagged: d.Untagged, Deleted: d.Deleted})
	}
	return out
}

func (a *images) prune(w http.ResponseWriter, r *http.Request) error {
	f, err := server.ReadPruneFilters(r, "dangling", "until")
	if err != nil {
		return err
	}
	all := false
	for _, v := range f.Filters["dangling"] {
		all = v == "false" || v == "0"
	}
	removed, freed, err := a.store.Prune(r.Context(), all, func(img *image.Image) bool { return f.Take(img.Spec.Config.Labels, img.Created()) })
	if err != nil {
		return err
	}
	publishPrune(a.events, "image", freed)
	return server.WriteJSON(w, http.StatusOK, map[string]any{"ImagesDeleted": toAPIDeleted(removed), "SpaceReclaimed": freed})
}
