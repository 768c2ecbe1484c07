package image

import (
	"context"
	"fmt"
	"strings"

	"github.com/containerd/containerd/v2/client"
	"github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/errdefs"
	"github.com/containerd/platforms"
	"github.com/distribution/reference"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/shoal-dev/shoal/internal/registry"
	"github.com/shoal-dev/shoal/internal/runtime"
)

// Pull fetches an image by its name and unpacks it, for the node's platform if platform is nil. What the node has of it for other platforms stays. progress may
// be nil; it is not called by two goroutines at once. A missing image or denied access is a not found error, as in Docker.
func (s *Store) Pull(ctx context.Context, ref string, platform *ocispec.Platform, auth registry.Auth, progress func(Progress)) (*Image, error) {
	return s.pull(ctx, ref, platform, auth, s.attempts.Load(), progress)
}

func (s *Store) pull(ctx context.Context, ref string, platform *ocispec.Platform, auth registry.Auth, attempts int64, progress func(Progress)) (*Image, error) {
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
	opts := []client.RemoteOpt{
		client.WithResolver(s.Registries.Resolver(ctx, auth)), client.WithPullUnpack, client.WithPullSnapshotter(runtime.Snapshotter),
		client.WithImageHandler(images.Handlers(images.HandlerFunc(s.checkRoom), images.HandlerFunc(parts.note), images.HandlerFunc(tracker.handleLayer))),
		client.WithImageHandlerWrapper(func(fetch images.Handler) images.Handler { return s.limited(fetch, attempts, tracker.say) }),
	}
	if platform != nil {
		opts = append(opts, client.WithPlatform(platforms.FormatAll(*platform)))
	}
	pulled, err := tracker.track(ctx, func(ctx context.Context) (client.Image, error) { return s.Client.Pull(ctx, named.String(), opts...) })
	if err != nil {
		parts.discard(ctx, err)
		return nil, pullFailure(named, platform, err)
	}
	s.unkeep(ctx, pulled.Target().Digest)
	s.evict(pulled.Target().Digest) // it may have been there for other platforms
	progress(Progress{Status: "Digest: " + pulled.Target().Digest.String()})
	if before.Target.Digest == pulled.Target().Digest {
		progress(Progress{Status: "Status: Image is up to date for " + reference.FamiliarString(named)})
	} else {
		progress(Progress{Status: "Status: Downloaded newer image for " + reference.FamiliarString(named)})
	}
	s.publish("pull", reference.FamiliarString(named), reference.FamiliarName(named))
	return s.GetFor(ctx, named.String(), platform)
}

// pullFailure puts an error of a pull into Docker's words.
func pullFailure(named reference.Named, platform *ocispec.Platform, err error) error {
	if errdefs.IsNotFound(err) && strings.Contains(err.Error(), "platform") { // the registry has the image, and not for this platform
		wanted := platforms.DefaultString()
		if platform != nil {
			wanted = platforms.FormatAll(*platform)
		}
		return errdefs.ErrNotFound.WithMessage(fmt.Sprintf("no matching manifest for %s in the manifest list entries: %v", wanted, err))
	}
	return registry.Failure(named, err)
}

// Ensure returns the image of a task. It pulls only what is not on the node, so that a slow or unreachable registry never delays a
// task whose image is there. If the pull fails, the cause is logged and the error is NotFound, or that of ctx.
func (s *Store) Ensure(ctx context.Context, ref string, auth registry.Auth) (*Image, error) {
	img, err := s.Get(ctx, ref)
	if err == nil || !errdefs.IsNotFound(err) {
		return img, err
	}
	img, err = s.pull(ctx, ref, nil, auth, 1, nil) // the task itself is tried again
	if err != nil {
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		s.Log.Warn("image of a task is not on the node and cannot be pulled; the task cannot start", "image", ref, "err", err)
		return nil, NotFound(ref)
	}
	return img, nil
}
