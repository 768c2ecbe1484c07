package api

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"path"
	"slices"
	"strings"

	"github.com/distribution/reference"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	apiimage "github.com/moby/moby/api/types/image"
	"github.com/moby/moby/api/types/jsonstream"

	"github.com/shoal-dev/shoal/internal/image"
)

// imageAPI serves /images.
type imageAPI struct {
	log    *slog.Logger
	images *image.Store
	// using tells the containers made from an image.
	using func(imageID string) []string
}

func (a *imageAPI) register(rt *router) {
	rt.handle("GET /images/json", a.list)
	rt.handle("POST /images/create", a.create)
	rt.handle("POST /images/load", a.load)
	rt.handle("GET /images/get", a.save)
	rt.handle("POST /images/prune", a.prune)
	// Names hold slashes, so what follows them is told apart by hand.
	rt.handle("GET /images/{rest...}", a.read)
	rt.handle("POST /images/{rest...}", a.change)
	rt.handle("DELETE /images/{rest...}", a.remove)
}

func (a *imageAPI) read(w http.ResponseWriter, r *http.Request) error {
	name, what := path.Split(r.PathValue("rest"))
	name = strings.TrimSuffix(name, "/")
	switch what {
	case "json":
		return a.inspect(w, r, name)
	case "history":
		return a.history(w, r, name)
	case "get":
		return a.export(w, r, []string{name})
	}
	return fail(http.StatusNotFound, "page not found")
}

func (a *imageAPI) change(w http.ResponseWriter, r *http.Request) error {
	name, what := path.Split(r.PathValue("rest"))
	name = strings.TrimSuffix(name, "/")
	switch what {
	case "tag":
		return a.tag(w, r, name)
	case "push":
		return a.push(w, r, name)
	}
	return fail(http.StatusNotFound, "page not found")
}

func (a *imageAPI) list(w http.ResponseWriter, r *http.Request) error {
	f, err := readFilters(r, "before", "dangling", "label", "reference", "since", "until")
	if err != nil {
		return err
	}
	all, err := a.images.List(r.Context())
	if err != nil {
		return err
	}
	out := []apiimage.Summary{}
	for _, img := range all {
		tags := img.RepoTags()
		dangling := len(tags) == 0
		matches := f.any("reference", func(pattern string) bool {
			for _, t := range tags {
				if ref, err := reference.ParseNormalizedNamed(t); err == nil {
					if ok, err := reference.FamiliarMatch(pattern, ref); ok && err == nil {
						return true
					}
				}
			}
			return false
		}) && f.any("dangling", func(v string) bool { return (v == "true" || v == "1") == dangling }) && f.labelled(img.Spec.Config.Labels)
		if matches {
			out = append(out, a.summary(img))
		}
	}
	return writeJSON(w, http.StatusOK, out)
}

func (a *imageAPI) summary(img *image.Image) apiimage.Summary {
	s := apiimage.Summary{
		ID: img.ID, RepoTags: img.RepoTags(), RepoDigests: img.RepoDigests(), Labels: img.Spec.Config.Labels, Size: img.Size, SharedSize: -1,
		Containers: int64(len(a.using(img.ID))),
	}
	if img.Spec.Created != nil {
		s.Created = img.Spec.Created.Unix()
	}
	return s
}

func (a *imageAPI) inspect(w http.ResponseWriter, r *http.Request, name string) error {
	img, err := a.images.Get(r.Context(), name)
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
		out.Created = stamp(*img.Spec.Created)
	}
	for _, d := range img.Spec.RootFS.DiffIDs {
		out.RootFS.Layers = append(out.RootFS.Layers, d.String())
	}
	return writeJSON(w, http.StatusOK, out)
}

func (a *imageAPI) history(w http.ResponseWriter, r *http.Request, name string) error {
	img, err := a.images.Get(r.Context(), name)
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
	return writeJSON(w, http.StatusOK, out)
}

// progressWriter sends progress lines as Docker's JSON stream.
func progressWriter(w http.ResponseWriter) func(image.Progress) {
	w.Header().Set("Content-Type", "application/json")
	enc := json.NewEncoder(flushing{w})
	return func(p image.Progress) {
		m := jsonstream.Message{ID: p.ID, Status: p.Status}
		if p.Total > 0 {
			m.Progress = &jsonstream.Progress{Current: p.Current, Total: p.Total}
		}
		_ = enc.Encode(m)
	}
}

// streamError ends a stream that has begun with an error, in both of the forms that clients read.
func streamError(w http.ResponseWriter, err error) {
	_ = json.NewEncoder(flushing{w}).Encode(map[string]any{"errorDetail": map[string]string{"message": err.Error()}, "error": err.Error()})
}

func authOf(r *http.Request) image.Auth {
	auth := struct{ Username, Password, IdentityToken string }{}
	if data, err := base64.URLEncoding.DecodeString(r.Header.Get("X-Registry-Auth")); err == nil {
		_ = json.Unmarshal(data, &auth)
	}
	return image.Auth{Username: auth.Username, Password: auth.Password, IdentityToken: auth.IdentityToken}
}

// create pulls an image, or makes one of a file system's archive.
func (a *imageAPI) create(w http.ResponseWriter, r *http.Request) error {
	if source := r.FormValue("fromSrc"); source != "" {
		return a.importFile(w, r, source)
	}
	ref := r.FormValue("fromImage")
	if tag := r.FormValue("tag"); tag != "" {
		if strings.Contains(tag, ":") {
			ref += "@" + tag
		} else {
			ref += ":" + tag
		}
	}
	if _, err := reference.ParseDockerRef(ref); err != nil {
		return fail(http.StatusBadRequest, "invalid reference format")
	}
	begun := false
	progress := progressWriter(w)
	_, err := a.images.Pull(r.Context(), ref, authOf(r), func(p image.Progress) { begun = true; progress(p) })
	if err != nil && begun {
		streamError(w, err)
		return nil
	}
	return err
}

func (a *imageAPI) importFile(w http.ResponseWriter, r *http.Request, source string) error {
	if source != "-" {
		return fail(http.StatusBadRequest, "import from a URL is not supported")
	}
	ref := r.FormValue("repo")
	if tag := r.FormValue("tag"); tag != "" && ref != "" {
		ref += ":" + tag
	}
	config := v1.Config{}
	if err := changeConfig(&config, r.Form["changes"]); err != nil {
		return err
	}
	img, err := a.images.Import(r.Context(), r.Body, ref, r.FormValue("message"), config)
	if err != nil {
		return err
	}
	progressWriter(w)(image.Progress{Status: img.ID})
	return nil
}

func (a *imageAPI) load(w http.ResponseWriter, r *http.Request) error {
	loaded, err := a.images.Load(r.Context(), r.Body)
	if err != nil {
		return err
	}
	_, _ = io.Copy(io.Discard, r.Body)
	w.Header().Set("Content-Type", "application/json")
	enc := json.NewEncoder(w)
	for _, img := range loaded {
		text := fmt.Sprintf("Loaded image ID: %s\n", img.ID)
		if tags := img.RepoTags(); len(tags) > 0 {
			text = fmt.Sprintf("Loaded image: %s\n", tags[0])
		}
		_ = enc.Encode(jsonstream.Message{Stream: text})
	}
	return nil
}

func (a *imageAPI) save(w http.ResponseWriter, r *http.Request) error {
	_ = r.ParseForm()
	return a.export(w, r, r.Form["names"])
}

func (a *imageAPI) export(w http.ResponseWriter, r *http.Request, names []string) error {
	for _, n := range names {
		if _, err := a.images.Get(r.Context(), n); err != nil {
			return err
		}
	}
	w.Header().Set("Content-Type", "application/x-tar")
	return a.images.Save(r.Context(), names, w)
}

func (a *imageAPI) tag(w http.ResponseWriter, r *http.Request, name string) error {
	target := r.FormValue("repo")
	if tag := r.FormValue("tag"); tag != "" {
		target += ":" + tag
	}
	if err := a.images.Tag(r.Context(), name, target); err != nil {
		return err
	}
	w.WriteHeader(http.StatusCreated)
	return nil
}

func (a *imageAPI) push(w http.ResponseWriter, r *http.Request, name string) error {
	if tag := r.FormValue("tag"); tag != "" {
		name += ":" + tag
	}
	begun := false
	progress := progressWriter(w)
	err := a.images.Push(r.Context(), name, authOf(r), func(p image.Progress) { begun = true; progress(p) })
	if err != nil && begun {
		streamError(w, err)
		return nil
	}
	return err
}

func (a *imageAPI) remove(w http.ResponseWriter, r *http.Request) error {
	removed, err := a.images.Remove(r.Context(), r.PathValue("rest"), flag(r, "force"))
	if err != nil {
		return err
	}
	return writeJSON(w, http.StatusOK, deletedOf(removed))
}

func deletedOf(removed []image.Removed) []apiimage.DeleteResponse {
	out := []apiimage.DeleteResponse{}
	for _, d := range removed {
		out = append(out, apiimage.DeleteResponse{Untagged: d.Untagged, Deleted: d.Deleted})
	}
	return out
}

func (a *imageAPI) prune(w http.ResponseWriter, r *http.Request) error {
	f, err := readFilters(r, "dangling", "label", "label!", "until")
	if err != nil {
		return err
	}
	all := false
	for _, v := range f["dangling"] {
		all = v == "false" || v == "0"
	}
	removed, freed, err := a.images.Prune(r.Context(), all, untilOf(f))
	if err != nil {
		return err
	}
	return writeJSON(w, http.StatusOK, map[string]any{"ImagesDeleted": deletedOf(removed), "SpaceReclaimed": freed})
}
