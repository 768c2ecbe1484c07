package engine

import (
	"net/http"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/distribution/reference"
	apiimage "github.com/moby/moby/api/types/image"

	"github.com/shoal-dev/shoal/internal/api/server"
	"github.com/shoal-dev/shoal/internal/api/version"
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
	f, err := server.ReadPruneFilters(r, "before", "dangling", "reference", "since", "until")
	if err != nil {
		return err
	}
	all, err := a.store.List(r.Context())
	if err != nil {
		return err
	}
	older, err := a.createdBound(r, f, "before")
	if err != nil {
		return err
	}
	newer, err := a.createdBound(r, f, "since")
	if err != nil {
		return err
	}
	dangling, danglingGiven, err := f.Bool("dangling")
	if err != nil {
		return err
	}
	if server.BoolParam(r, "identity") && !version.Before(r.Context(), "1.54") {
		if !server.BoolParam(r, "manifests") {
			return server.BadRequest("conflicting options: identity requires manifests=1")
		}
		return server.Errorf(http.StatusNotImplemented, "identities of images: not supported by this engine")
	}
	var shared map[string]int64
	if server.BoolParam(r, "shared-size") {
		shared = a.sharedSizes(r.Context(), all)
	}
	out := []apiimage.Summary{}
	for _, img := range all {
		if danglingGiven && dangling != (len(img.Names) == 0) || !older.IsZero() && !img.Created().Before(older) ||
			!newer.IsZero() && !img.Created().After(newer) || !f.Take(img.Spec.Config.Labels, img.Created()) {
			continue
		}
		if f.Has("reference") {
			if img = withMatchingNames(img, f.Filters["reference"]); img == nil {
				continue
			}
		}
		summary := a.toAPISummary(img)
		if shared != nil {
			summary.SharedSize = shared[img.ID]
		}
		if server.BoolParam(r, "manifests") {
			if summary.Manifests, err = a.manifests(r.Context(), img); err != nil {
				return err
			}
		}
		out = append(out, summary)
	}
	return server.WriteJSON(w, http.StatusOK, out)
}

// createdBound is when the image that the filter "before" or "since" names was made, of several the one that leaves the least; the zero time without the filter.
func (a *images) createdBound(r *http.Request, f server.PruneFilters, name string) (time.Time, error) {
	if !f.Has(name) {
		return time.Time{}, nil
	}
	var bound time.Time
	for _, ref := range f.Filters[name] {
		img, err := a.store.Get(r.Context(), ref)
		if err != nil {
			return time.Time{}, err
		}
		if made := img.Created(); bound.IsZero() || (name == "before") == made.Before(bound) {
			bound = made
		}
	}
	return bound, nil
}

// withMatchingNames is an image with no more than those of its names that fit a pattern, nil if none does.
func withMatchingNames(img *image.Image, patterns []string) *image.Image {
	matching := *img
	matching.Names = slices.DeleteFunc(slices.Clone(img.Names), func(name string) bool {
		return !slices.ContainsFunc(patterns, func(pattern string) bool { return referenceMatches(pattern, name) })
	})
	if len(matching.Names) == 0 {
		return nil
	}
	return &matching
}

// referenceMatches tells whether a name, such as "docker.io/library/busybox:latest", fits a pattern of path.Match in its familiar form.
func referenceMatches(pattern, name string) bool {
	ref, err := reference.ParseNormalizedNamed(name)
	if err != nil {
		return false
	}
	ok, err := reference.FamiliarMatch(pattern, ref)
	return ok && err == nil
}

func (a *images) toAPISummary(img *image.Image) apiimage.Summary {
	s := apiimage.Summary{
		ID: img.ID, RepoTags: img.RepoTags(), RepoDigests: img.RepoDigests(), Labels: img.Spec.Config.Labels, Size: img.Size, SharedSize: -1,
		Descriptor: &img.Target,
	}
	for _, id := range img.IDs() {
		s.Containers += int64(len(a.usedBy(id)))
	}
	if img.Spec.Created != nil {
		s.Created = img.Spec.Created.Unix()
	}
	return s
}

func (a *images) inspect(w http.ResponseWriter, r *http.Request, name string) error {
	platform, err := platformParam(r)
	if err != nil {
		return err
	}
	withManifests := server.BoolParam(r, "manifests")
	if withManifests && platform != nil {
		return server.BadRequest("conflicting options: manifests and platform options cannot both be set")
	}
	img, err := a.store.GetFor(r.Context(), name, platform)
	if err != nil {
		return err
	}
	config := img.Spec.Config
	out := apiimage.InspectResponse{
		ID: img.ID, RepoTags: img.RepoTags(), RepoDigests: img.RepoDigests(), Author: img.Spec.Author, Config: &config,
		Architecture: img.Spec.Architecture, Variant: img.Spec.Variant, Os: img.Spec.OS, OsVersion: img.Spec.OSVersion, Size: img.Size,
		RootFS: apiimage.RootFS{Type: img.Spec.RootFS.Type}, Descriptor: &img.Target,
	}
	if platform != nil {
		out.Descriptor = &img.Manifest
	}
	if withManifests {
		if out.Manifests, err = a.manifests(r.Context(), img); err != nil {
			return err
		}
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
	platform, err := platformParam(r)
	if err != nil {
		return err
	}
	img, err := a.store.GetFor(r.Context(), name, platform)
	if err != nil {
		return err
	}
	out := []apiimage.HistoryResponseItem{}
	sizes := a.store.LayerSizes(r.Context(), img)
	for _, h := range slices.Backward(img.Spec.History) {
		item := apiimage.HistoryResponseItem{ID: "<missing>", CreatedBy: h.CreatedBy, Comment: h.Comment}
		if h.Created != nil {
			item.Created = h.Created.Unix()
		}
		if len(out) == 0 {
			item.ID, item.Tags = img.ID, img.RepoTags()
		}
		if last := len(sizes) - 1; !h.EmptyLayer && last >= 0 { // the history is as long as the layers, but for empty ones
			item.Size, sizes = sizes[last], sizes[:last]
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
	name, force := r.PathValue("rest"), server.BoolParam(r, "force")
	removed, err := []image.Removed(nil), error(nil)
	if given := r.Form["platforms"]; len(given) > 0 {
		removed, err = a.removePlatforms(r, name, given, force)
	} else {
		removed, err = a.store.Remove(r.Context(), name, force)
	}
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
	dangling, given, err := f.Bool("dangling")
	if err != nil {
		return err
	}
	removed, freed, err := a.store.Prune(r.Context(), given && !dangling, func(img *image.Image) bool { return f.Take(img.Spec.Config.Labels, img.Created()) })
	if err != nil {
		return err
	}
	publishPrune(a.events, "image", freed)
	return server.WriteJSON(w, http.StatusOK, map[string]any{"ImagesDeleted": toAPIDeleted(removed), "SpaceReclaimed": freed})
}
