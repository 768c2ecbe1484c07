package image

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/containerd/containerd/v2/client"
	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/containerd/v2/core/remotes"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/shoal-dev/shoal/internal/fault"
)

// Progress is one line of Docker's progress stream.
type Progress struct {
	ID             string // the first 12 digits of a layer's digest, or a tag; empty for a line about the whole image
	Status         string // in Docker's words
	Current, Total int64  // bytes; Total is 0 when there is no bar to show
	Pushed         *Pushed
	Instead        *PushedInstead      // of an image for several platforms
	Missing        *ocispec.Descriptor // content that the node does not have, so that it cannot be pushed
}

// PushedInstead tells that a push has sent what an image is for one platform, for lack of the rest.
type PushedInstead struct{ OriginalIndex, SelectedManifest ocispec.Descriptor }

// Pushed is what a push has made in the registry. Clients read it from the progress: its fields have Docker's names.
type Pushed struct {
	Tag, Digest string
	Size        int64 // bytes of the manifest
}

// pullProgress turns a pull into Docker's progress lines.
type pullProgress struct {
	content  ingestStatus
	mu       sync.Mutex           // guards the fields below
	layers   []ocispec.Descriptor // found so far
	progress func(Progress)       // is not called by two goroutines at once
}

// ingestStatus is the part of containerd's content store that knows how much of a download has arrived.
type ingestStatus interface {
	Status(ctx context.Context, ref string) (content.Status, error)
}

// newPullProgress returns the progress of a pull that has not begun; lines go to progress.
func newPullProgress(c ingestStatus, progress func(Progress)) *pullProgress {
	return &pullProgress{content: c, progress: func(p Progress) { // goroutines of containerd's call it
		fault.Do(nil, "progress of a pull", func() { progress(p) })
	}}
}

// handleLayer is called by containerd for every descriptor of the image that it pulls, at once for several. It adds none.
func (w *pullProgress) handleLayer(_ context.Context, d ocispec.Descriptor) ([]ocispec.Descriptor, error) {
	if images.IsLayerType(d.MediaType) {
		w.mu.Lock()
		defer w.mu.Unlock()
		if slices.ContainsFunc(w.layers, func(other ocispec.Descriptor) bool { return other.Digest == d.Digest }) { // tried again
			return nil, nil
		}
		w.layers = append(w.layers, d)
		w.progress(Progress{ID: shortDigest(d), Status: "Pulling fs layer"})
	}
	return nil, nil
}

// say reports something else about a layer.
func (w *pullProgress) say(p Progress) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.progress(p)
}

// track runs pull and reports the layers' progress ten times a second until it is over.
func (w *pullProgress) track(ctx context.Context, pull func(context.Context) (client.Image, error)) (client.Image, error) {
	watching, stop := context.WithCancel(ctx)
	var watcher sync.WaitGroup
	watcher.Go(func() {
		tick := time.NewTicker(100 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-watching.Done():
				return
			case <-tick.C:
				w.report(watching)
			}
		}
	})
	img, err := pull(ctx)
	stop()
	watcher.Wait()
	if err == nil {
		for _, d := range w.layers {
			w.progress(Progress{ID: shortDigest(d), Status: "Pull complete"})
		}
	}
	return img, err
}

// report tells how much of each layer has arrived. A layer whose download has not begun or is over has no status.
func (w *pullProgress) report(ctx context.Context) {
	w.mu.Lock()
	layers := slices.Clone(w.layers)
	w.mu.Unlock()
	for _, d := range layers {
		st, err := w.content.Status(ctx, remotes.MakeRefKey(ctx, d))
		if err == nil {
			w.downloading(d, st.Offset)
		}
	}
}

// shortDigest is the form in which Docker shows a layer.
func shortDigest(d ocispec.Descriptor) string { return d.Digest.Encoded()[:12] }

func (w *pullProgress) downloading(d ocispec.Descriptor, arrived int64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.progress(Progress{ID: shortDigest(d), Status: "Downloading", Current: arrived, Total: d.Size})
}
