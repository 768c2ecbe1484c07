package image

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/errdefs"
	"github.com/distribution/reference"
	"github.com/opencontainers/go-digest"

	"github.com/shoal-dev/shoal/internal/runtime"
)

// Prune removes the images without a name that no container uses, or of all images the names that no container was made with; an image goes with its last
// name, unless a container uses it. It leaves what is not to be taken. It returns what was removed and the bytes freed, also with an error.
func (s *Store) Prune(ctx context.Context, all bool, take func(*Image) bool) ([]Removed, int64, error) {
	ctx = runtime.WithNamespace(ctx)
	records, err := s.Client.ImageService().List(ctx)
	if err != nil {
		return nil, 0, fmt.Errorf("list images: %w", err)
	}
	p := pruning{images: map[string]*Image{}, names: map[digest.Digest]int{}, used: map[string]bool{}}
	for _, r := range records {
		p.names[r.Target.Digest]++
		img, err := s.parse(ctx, r)
		if err == nil && (all || strings.HasPrefix(r.Name, danglingPrefix)) && take(img) {
			p.images[r.Name] = img
		}
	}
	if s.Users != nil {
		p.exclude(s.Users())
	}
	var removed []Removed
	var freed int64
	for _, name := range slices.Sorted(maps.Keys(p.images)) {
		img := p.images[name]
		last := p.names[img.Target.Digest] == 1
		if last && p.uses(img) {
			continue
		}
		if err := s.Client.ImageService().Delete(ctx, name, images.SynchronousDelete()); err != nil && !errdefs.IsNotFound(err) {
			return removed, freed, fmt.Errorf("prune image %s: %w", name, err)
		}
		p.names[img.Target.Digest]--
		if !strings.HasPrefix(name, danglingPrefix) {
			removed = append(removed, Removed{Untagged: familiarName(name)})
			s.publish("untag", img.ID, familiarName(name))
		}
		if last {
			s.evict(img.Target.Digest)
			s.publish("delete", img.ID, "")
			removed, freed = append(removed, Removed{Deleted: img.ID}), freed+img.Size
		}
	}
	return removed, freed, nil
}

// pruning is what is to be pruned.
type pruning struct {
	images map[string]*Image     // the candidates by their names
	names  map[digest.Digest]int // how many names a target has, candidates or not
	used   map[string]bool       // the IDs of images that containers use
}

// uses tells whether a container uses an image, for whatever platform.
func (p *pruning) uses(img *Image) bool {
	return slices.ContainsFunc(img.variants, func(v *Image) bool { return p.used[v.ID] })
}

// exclude takes the names that containers were made with from the candidates. The one that an image has left is one of them.
func (p *pruning) exclude(users []User) {
	for _, u := range users {
		p.used[u.ImageID] = true
		named, err := normalize(u.Image)
		if err != nil {
			continue
		}
		delete(p.images, named.String())
		if ref, err := reference.ParseNormalizedNamed(u.Image); err == nil {
			if tagged, ok := ref.(reference.Tagged); ok { // "repository:tag@digest", of which normalize leaves the digest
				delete(p.images, ref.Name()+":"+tagged.Tag())
			}
		}
	}
}
