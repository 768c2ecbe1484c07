package engine

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"

	"github.com/distribution/reference"
	"github.com/moby/moby/api/types/auxprogress"
	"github.com/moby/moby/api/types/jsonstream"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/shoal-dev/shoal/internal/api/server"
	"github.com/shoal-dev/shoal/internal/image"
	"github.com/shoal-dev/shoal/internal/registry"
)

// streamProgress runs a transfer and sends its progress as Docker's JSON stream. An error before any progress is the answer to the
// request; a later one ends the stream, whose status has been sent already, in both of the forms that clients read.
func streamProgress(w http.ResponseWriter, transfer func(func(image.Progress)) error) error {
	started := false
	progress := progressWriter(w)
	err := transfer(func(p image.Progress) {
		started = true
		progress(p)
	})
	if err == nil || !started {
		return err
	}
	_ = json.NewEncoder(server.NewFlushWriter(w)).Encode(streamError(err)) // a client that is gone misses nothing
	return nil
}

// streamError is an error as a part of a stream, in both of the forms that clients read.
func streamError(err error) any {
	return map[string]any{"errorDetail": map[string]string{"message": err.Error()}, "error": err.Error()}
}

// progressWriter sends each line of progress at once.
func progressWriter(w http.ResponseWriter) func(image.Progress) {
	w.Header().Set("Content-Type", "application/json")
	enc := json.NewEncoder(server.NewFlushWriter(w))
	return func(p image.Progress) {
		m := jsonstream.Message{ID: p.ID, Status: p.Status}
		if aux := toAPIAux(p); aux != nil {
			if encoded, err := json.Marshal(aux); err == nil {
				m.Aux = (*json.RawMessage)(&encoded)
			}
		}
		if p.Total > 0 {
			m.Progress = &jsonstream.Progress{Current: p.Current, Total: p.Total}
		}
		_ = enc.Encode(m)
	}
}

// toAPIAux is what programs read of a transfer's progress; nil if there is nothing.
func toAPIAux(p image.Progress) any {
	switch {
	case p.Pushed != nil:
		return p.Pushed
	case p.Instead != nil:
		return auxprogress.ManifestPushedInsteadOfIndex{
			ManifestPushedInsteadOfIndex: true, OriginalIndex: p.Instead.OriginalIndex, SelectedManifest: p.Instead.SelectedManifest,
		}
	case p.Missing != nil:
		return auxprogress.ContentMissing{ContentMissing: true, Desc: *p.Missing}
	}
	return nil
}

// fromAPIRegistryAuth reads the credentials that a client sends along; there are none if they cannot be read.
func fromAPIRegistryAuth(r *http.Request) registry.Auth {
	auth, err := registry.ParseAuth(r.Header.Get("X-Registry-Auth"))
	if err != nil {
		return registry.Auth{}
	}
	return auth
}

// create pulls an image, or imports one from an archive of a file system.
func (a *images) create(w http.ResponseWriter, r *http.Request) error {
	platform, err := platformText(r)
	if err != nil {
		return err
	}
	if source := r.FormValue("fromSrc"); source != "" {
		return a.importArchive(w, r, source, platform)
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
		return server.BadRequest("invalid reference format")
	}
	return streamProgress(w, func(progress func(image.Progress)) error {
		_, err := a.store.Pull(r.Context(), ref, platform, fromAPIRegistryAuth(r), progress)
		return err
	})
}

func (a *images) importArchive(w http.ResponseWriter, r *http.Request, source string, platform *ocispec.Platform) error {
	if source != "-" {
		return server.BadRequest("import from a URL is not supported")
	}
	ref := r.FormValue("repo")
	if tag := r.FormValue("tag"); tag != "" && ref != "" {
		ref += ":" + tag
	}
	config := imageConfig{}
	if err := applyChanges(&config, r.Form["changes"]); err != nil {
		return err
	}
	img, err := a.store.Import(r.Context(), r.Body, platform, ref, r.FormValue("message"), config)
	if err != nil {
		return err
	}
	progressWriter(w)(image.Progress{Status: img.ID})
	return nil
}

func (a *images) load(w http.ResponseWriter, r *http.Request) error {
	platform, err := platformParam(r)
	if err != nil {
		return err
	}
	loaded, err := a.store.Load(r.Context(), r.Body, platform)
	_, _ = io.Copy(io.Discard, r.Body)
	w.Header().Set("Content-Type", "application/json")
	enc := json.NewEncoder(w)
	if err != nil { // Docker has sent the status before it reads the archive
		return enc.Encode(streamError(err))
	}
	for _, img := range loaded {
		text := fmt.Sprintf("Loaded image ID: %s\n", img.ID)
		if tags := img.RepoTags(); len(tags) > 0 {
			text = fmt.Sprintf("Loaded image: %s\n", tags[0])
		}
		_ = enc.Encode(jsonstream.Message{Stream: text})
	}
	return nil
}

func (a *images) save(w http.ResponseWriter, r *http.Request) error {
	_ = r.ParseForm()
	return a.export(w, r, r.Form["names"])
}

func (a *images) export(w http.ResponseWriter, r *http.Request, names []string) error {
	platform, err := platformParam(r)
	if err != nil {
		return err
	}
	w.Header().Set("Content-Type", "application/x-tar")
	return a.store.Save(r.Context(), names, platform, w)
}

func (a *images) push(w http.ResponseWriter, r *http.Request, name string) error {
	platform, err := platformParam(r)
	if err != nil {
		return err
	}
	if tag := r.FormValue("tag"); tag != "" {
		name += ":" + tag
	}
	if _, err := reference.ParseNormalizedNamed(name); err != nil {
		return server.BadRequest("invalid reference format")
	}
	return streamProgress(w, func(progress func(image.Progress)) error {
		return a.store.Push(r.Context(), name, platform, fromAPIRegistryAuth(r), progress)
	})
}
