package image

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/errdefs"
	"github.com/distribution/reference"

	"github.com/shoal-dev/shoal/internal/runtime"
)

// Tag gives an image one more name, and takes it from the image that has it. A malformed name is an invalid argument.
func (s *Store) Tag(ctx context.Context, source, target string) error {
	ctx = runtime.WithNamespace(ctx)
	img, err := s.Get(ctx, source)
	if err != nil {
		return err
	}
	named, err := normalize(target)
	if err != nil {
		return err
	}
	record := images.Image{Name: named.String(), Target: img.Target}
	if err := s.putRecord(ctx, record); err != nil {
		return fmt.Errorf("tag image: %w", err)
	}
	s.publish("tag", img.ID, reference.FamiliarString(named))
	return nil
}

// putRecord creates the record of an image's name, or replaces it.
func (s *Store) putRecord(ctx context.Context, record images.Image) error {
	_, err := s.Client.ImageService().Create(ctx, record)
	if errdefs.IsAlreadyExists(err) {
		_, err = s.Client.ImageService().Update(ctx, record)
	}
	return err
}

// Removed is one step of a removal, as Docker reports it. One of the fields is set.
type Removed struct {
	Untagged string // the familiar name that was removed ("nginx:latest")
	Deleted  string // the ID of the image that was deleted
}

// Remove removes the name ref from an image, and deletes the image if that was its last. By its ID, all of its names are removed. Without
// force, it is a conflict to delete an image that has containers, and to remove one that has several names by its ID. After an error, the
// steps done so far are returned with it.
func (s *Store) Remove(ctx context.Context, ref string, force bool) ([]Removed, error) {
	ctx = runtime.WithNamespace(ctx)
	img, err := s.Get(ctx, ref)
	if err != nil {
		return nil, err
	}
	names := img.Names // to remove
	if named, err := normalize(ref); err == nil && slices.Contains(img.Names, named.String()) {
		names = []string{named.String()}
	} else if len(img.Names) > 1 && !force {
		return nil, conflict("unable to delete %s (must be forced) - image is referenced in multiple repositories", shortID(img.ID))
	}
	last := len(names) == len(img.Names)
	if last && s.InUse != nil && !force {
		if users := s.InUse(img.ID); len(users) > 0 {
			if len(names) == 1 && len(img.Names) == 1 {
				return nil, conflict("unable to remove repository reference %q (must force) - container %s is using its referenced image %s",
					ref, shortID(users[0]), shortID(img.ID))
			}
			return nil, conflict("unable to delete %s (must be forced) - image is being used by container %s", shortID(img.ID), shortID(users[0]))
		}
	}
	var done []Removed
	for _, n := range names {
		if err := s.Client.ImageService().Delete(ctx, n); err != nil && !errdefs.IsNotFound(err) {
			return done, fmt.Errorf("remove image %s: %w", ref, err)
		}
		if named, err := reference.ParseNormalizedNamed(n); err == nil {
			done = append(done, Removed{Untagged: reference.FamiliarString(named)})
			s.publish("untag", img.ID, "")
		}
	}
	if !last {
		return done, nil
	}
	if err := s.Client.ImageService().Delete(ctx, danglingPrefix+img.Target.Digest.String(), images.SynchronousDelete()); err != nil && !errdefs.IsNotFound(err) {
		return done, fmt.Errorf("remove image %s: %w", ref, err)
	}
	s.evict(img.Target.Digest)
	s.publish("delete", img.ID, "")
	return append(done, Removed{Deleted: img.ID}), nil
}

// Prune deletes the images that no container uses and that are to be taken: those without a name, or all. It returns what was removed and the bytes freed,
// also with an error.
func (s *Store) Prune(ctx context.Context, all bool, take func(*Image) bool) ([]Removed, int64, error) {
	list, err := s.List(ctx)
	if err != nil {
		return nil, 0, err
	}
	var removed []Removed
	var freed int64
	for _, img := range list {
		if len(img.Names) > 0 && !all || s.InUse != nil && len(s.InUse(img.ID)) > 0 {
			continue
		}
		if !take(img) {
			continue
		}
		done, err := s.Remove(ctx, img.ID, true)
		if err != nil {
			return removed, freed, err
		}
		removed, freed = append(removed, done...), freed+img.Size
	}
	return removed, freed, nil
}

// conflict is an error of Docker's for an image that cannot be removed.
func conflict(format string, args ...any) error {
	return errdefs.ErrConflict.WithMessage("conflict: " + fmt.Sprintf(format, args...))
}

// shortID is the form in which Docker shows the ID of an image or a container: the first 12 digits.
func shortID(id string) string {
	id = strings.TrimPrefix(id, "sha256:")
	return id[:min(12, len(id))]
}
