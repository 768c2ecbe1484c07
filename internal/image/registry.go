package image

import (
	"context"
	"fmt"

	"github.com/containerd/containerd/v2/client"
	"github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/errdefs"
	"github.com/distribution/reference"

	"github.com/shoal-dev/shoal/internal/registry"
	"github.com/shoal-dev/shoal/internal/runtime"
)

// Pull fetches an image by its name and unpacks it. progress may be nil; it is not called by two goroutines at once. A missing image or
// denied access is a not found error, as in Docker.
func (s *Store) Pull(ctx context.Context, ref string, auth registry.Auth, progress func(Progress)) (*Image, error) {
	return s.PullPlatform(ctx, ref, "", auth, progress)
}

// PullPlatform is Pull for a platform, "linux/arm64"; "" is the node's.
func (s *Store) PullPlatform(ctx context.Context, ref, platform string, auth registry.Auth, progress func(Progress)) (*Image, error) {
	named, err := normalize(ref)
	if err != nil {
		return nil, err
	}
	if progress == nil {
		progress = func(Progress) {}
	}
	ctx = runtime.WithNamespace(ctx)
	tag := "latest"
	switch n := named.(type) {
	case reference.Digested:
		tag = n.Digest().String()
	case reference.Tagged:
		tag = n.Tag()
	}
	before, _ := s.Client.ImageService().Get(ctx, named.String())
	if err := s.keep(ctx, before); err != nil {
		return nil, err
	}
	progress(Progress{ID: tag, Status: "Pulling from " + reference.Path(named)})
	parts := &download{content: s.Client.ContentStore()}
	tracker := newPullProgress(s.Client.ContentStore(), progress)
	pulled, err := tracker.track(ctx, func(ctx context.Context) (client.Image, error) {
		return s.Client.Pull(ctx, named.String(),
			client.WithResolver(s.Registries.Resolver(ctx, auth)), ofPlatform(platform), client.WithPullUnpack, client.WithPullSnapshotter(runtime.Snapshotter),
			client.WithImageHandler(images.Handlers(images.HandlerFunc(s.checkRoom), images.HandlerFunc(parts.note), images.HandlerFunc(tracker.handleLayer))))
	})
	if err != nil {
		parts.discard(ctx, err)
		return nil, registry.Failure(named, err)
	}
	s.unkeep(ctx, pulled.Target().Digest)
	progress(Progress{Status: "Digest: " + pulled.Target().Digest.String()})
	if before.Target.Digest == pulled.Target().Digest {
		progress(Progress{Status: "Status: Image is up to date for " + reference.FamiliarString(named)})
	} else {
		progress(Progress{Status: "Status: Downloaded newer image for " + reference.FamiliarString(named)})
	}
	s.publish("pull", reference.FamiliarString(named), reference.FamiliarName(named))
	return s.Get(ctx, named.String())
}

// ofPlatform asks for one platform of an image, "" for the node's.
func ofPlatform(platform string) client.RemoteOpt {
	if platform == "" {
		return func(*client.Client, *client.RemoteContext) error { return nil }
	}
	return client.WithPlatform(platform)
}

// Ensure returns the image of a task. It pulls only what is not on the node, so that a slow or unreachable registry never delays a
// task whose image is there. If the pull fails, the cause is logged and the error is NotFound, or that of ctx.
func (s *Store) Ensure(ctx context.Context, ref string, auth registry.Auth) (*Image, error) {
	img, err := s.Get(ctx, ref)
	if err == nil || !errdefs.IsNotFound(err) {
		return img, err
	}
	img, err = s.Pull(ctx, ref, auth, nil)
	if err != nil {
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		s.Log.Warn("image of a task is not on the node and cannot be pulled; the task cannot start", "image", ref, "err", err)
		return nil, NotFound(ref)
	}
	return img, nil
}

// Push sends an image to the registry in its name. ref must be a name; progress must not be nil.
func (s *Store) Push(ctx context.Context, ref string, auth registry.Auth, progress func(Progress)) error {
	named, err := normalize(ref)
	if err != nil {
		return err
	}
	ctx = runtime.WithNamespace(ctx)
	record, err := s.Client.ImageService().Get(ctx, named.String())
	if err != nil {
		return errdefs.ErrNotFound.WithMessage(fmt.Sprintf("An image does not exist locally with the tag: %s", reference.FamiliarName(named)))
	}
	progress(Progress{Status: fmt.Sprintf("The push refers to repository [%s]", named.Name())})
	if err := s.Client.Push(ctx, named.String(), record.Target, client.WithResolver(s.Registries.Resolver(ctx, auth))); err != nil {
		return fmt.Errorf("push image %s: %w", ref, err)
	}
	tag := "latest"
	if t, ok := named.(reference.Tagged); ok {
		tag = t.Tag()
	}
	progress(Progress{Status: fmt.Sprintf("%s: digest: %s size: %d", tag, record.Target.Digest, record.Target.Size)})
	progress(Progress{Pushed: &Pushed{Tag: tag, Digest: record.Target.Digest.String(), Size: record.Target.Size}})
	s.publish("push", reference.FamiliarString(named), reference.FamiliarName(named))
	return nil
}
