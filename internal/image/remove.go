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

// Removed is one step of a removal, as Docker reports it. One of the fields is set.
type Removed struct {
	Untagged string // the familiar name that was removed ("nginx:latest")
	Deleted  string // the ID of the image that was deleted
}

// Remove removes the name ref from an image, and deletes the image if that was its last. By its ID, all of its names are removed. Without
// force, it is a conflict to delete an image that has containers, and to remove one that has several names by its ID. With force, an image that
// loses its last name while it has containers is kept without a name; by its ID it is deleted unless one of them runs. After an error, the
// steps done so far are returned with it.
func (s *Store) Remove(ctx context.Context, ref string, force bool) ([]Removed, error) {
	ctx = runtime.WithNamespace(ctx)
	img, err := s.Get(ctx, ref)
	if err != nil {
		return nil, err
	}
	names, byName := img.sameReferences(ref)
	if byName && len(names) < len(img.Names) {
		return s.untag(ctx, img, names)
	}
	users := s.users(img)
	if byName && len(users) > 0 {
		familiar := familiarName(names[0])
		if !force {
			return nil, conflict("unable to delete %s (must be forced) - container %s is using its referenced image %s", familiar, shortID(users[0].Container), shortID(img.ID))
		}
		if err := s.keep(ctx, images.Image{Target: img.Target}); err != nil {
			return nil, err
		}
		return s.untag(ctx, img, names)
	}
	if err := deleteConflict(img, users, byName, force); err != nil {
		return nil, err
	}
	done, err := s.untag(ctx, img, img.Names)
	if err != nil {
		return done, err
	}
	if err := s.Client.ImageService().Delete(ctx, danglingPrefix+img.Target.Digest.String(), images.SynchronousDelete()); err != nil && !errdefs.IsNotFound(err) {
		return done, fmt.Errorf("remove image %s: %w", ref, err)
	}
	s.evict(img.Target.Digest)
	s.publish("delete", img.ID, "")
	return append(done, Removed{Deleted: img.ID}), nil
}

// deleteConflict is why an image cannot be deleted, if it cannot.
func deleteConflict(img *Image, users []User, byName, force bool) error {
	for _, u := range users {
		if u.Running {
			return conflict("unable to delete %s (cannot be forced) - image is being used by running container %s", shortID(img.ID), shortID(u.Container))
		}
	}
	switch {
	case force:
	case len(users) > 0:
		return conflict("unable to delete %s (must be forced) - image is being used by stopped container %s", shortID(img.ID), shortID(users[0].Container))
	case !byName && len(img.Names) > 1:
		return conflict("unable to delete %s (must be forced) - image is referenced in multiple repositories", shortID(img.ID))
	}
	return nil
}

// sameReferences lists the names that go when a reference is removed; byName is false for an ID, with which all go. The name with a digest goes with the
// last tag of its repository, and all tags of a repository with its digest.
func (i *Image) sameReferences(ref string) (names []string, byName bool) {
	named, err := normalize(ref)
	if err != nil {
		return i.Names, false
	}
	_, digested := named.(reference.Digested)
	if !digested && !slices.Contains(i.Names, named.String()) {
		return i.Names, false
	}
	all := i.namesIn(named.Name())
	if digested {
		return all, len(all) > 0
	}
	tags := slices.DeleteFunc(slices.Clone(all), func(n string) bool { return strings.Contains(n, "@") })
	if len(tags) > 1 {
		return []string{named.String()}, true
	}
	return append(tags, slices.DeleteFunc(all, func(n string) bool { return slices.Contains(tags, n) })...), true
}

// untag removes names from an image.
func (s *Store) untag(ctx context.Context, img *Image, names []string) ([]Removed, error) {
	var done []Removed
	for _, n := range names {
		if err := s.Client.ImageService().Delete(ctx, n); err != nil && !errdefs.IsNotFound(err) {
			return done, fmt.Errorf("remove name %s: %w", n, err)
		}
		done = append(done, Removed{Untagged: familiarName(n)})
		s.publish("untag", img.ID, familiarName(n))
	}
	return done, nil
}

// familiarName is how Docker shows a full reference.
func familiarName(name string) string {
	if named, err := reference.ParseNormalizedNamed(name); err == nil {
		return reference.FamiliarString(named)
	}
	return name
}

// users lists what uses an image, for whatever platform.
func (s *Store) users(img *Image) []User {
	if s.Users == nil {
		return nil
	}
	ids := img.IDs()
	return slices.DeleteFunc(s.Users(), func(u User) bool { return !slices.Contains(ids, u.ImageID) })
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
