package image

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"

	"github.com/containerd/containerd/v2/client"
	"github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/containerd/v2/core/remotes"
	"github.com/containerd/containerd/v2/core/remotes/docker"
	"github.com/containerd/errdefs"
	"github.com/distribution/reference"

	"github.com/shoal-dev/shoal/internal/runtime"
)

// Auth is the credentials for a registry; the zero Auth is anonymous.
type Auth struct {
	Username, Password string
	IdentityToken      string // a refresh token, as after `docker login` with a browser; if it is set, the other two do not count
}

// resolver returns containerd's client for registries.
func (s *Store) resolver(auth Auth) remotes.Resolver {
	authorizer := docker.NewDockerAuthorizer(docker.WithAuthCreds(func(string) (string, string, error) {
		if auth.IdentityToken != "" {
			return "", auth.IdentityToken, nil
		}
		return auth.Username, auth.Password, nil
	}))
	return docker.NewResolver(docker.ResolverOptions{Hosts: docker.ConfigureDefaultRegistries(
		docker.WithAuthorizer(authorizer), docker.WithPlainHTTP(s.insecure),
	)})
}

// insecure reports whether a registry may be spoken to without TLS: one on loopback, as with Docker, or one that the configuration names.
func (s *Store) insecure(host string) (bool, error) {
	if local, err := docker.MatchLocalhost(host); local || err != nil {
		return local, err
	}
	if slices.Contains(s.InsecureRegistries, host) {
		return true, nil
	}
	name := host
	if h, _, err := net.SplitHostPort(host); err == nil {
		name = h
	}
	ip := net.ParseIP(name)
	for _, entry := range s.InsecureRegistries {
		if _, subnet, err := net.ParseCIDR(entry); err == nil && ip != nil && subnet.Contains(ip) {
			return true, nil
		}
	}
	return false, nil
}

// Pull fetches an image by its name and unpacks it. progress may be nil; it is not called by two goroutines at once. A missing image or
// denied access is a not found error, as in Docker.
func (s *Store) Pull(ctx context.Context, ref string, auth Auth, progress func(Progress)) (*Image, error) {
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
	tracker := newPullProgress(s.Client.ContentStore(), progress)
	pulled, err := tracker.track(ctx, func(ctx context.Context) (client.Image, error) {
		return s.Client.Pull(ctx, named.String(),
			client.WithResolver(s.resolver(auth)), client.WithPullUnpack, client.WithPullSnapshotter(runtime.Snapshotter),
			client.WithImageHandler(images.Handlers(images.HandlerFunc(s.checkRoom), images.HandlerFunc(tracker.handleLayer))))
	})
	if err != nil {
		return nil, pullError(named, err)
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

// pullError puts a failed pull into Docker's words. Registries do not say whether a repository is missing or private.
func pullError(named reference.Named, err error) error {
	name := reference.FamiliarString(named)
	switch {
	case errdefs.IsNotFound(err):
		return errdefs.ErrNotFound.WithMessage(fmt.Sprintf("manifest for %s not found: manifest unknown: manifest unknown", name))
	case errdefs.IsUnauthorized(err), errors.Is(err, docker.ErrInvalidAuthorization), errdefs.IsPermissionDenied(err):
		return errdefs.ErrNotFound.WithMessage(fmt.Sprintf("pull access denied for %s, repository does not exist or may require 'docker login': denied: requested access to the resource is denied", reference.FamiliarName(named)))
	}
	return fmt.Errorf("pull image %s: %w", name, err)
}

// Ensure returns the image of a task. It pulls only what is not on the node, so that a slow or unreachable registry never delays a
// task whose image is there. If the pull fails, the cause is logged and the error is NotFound, or that of ctx.
func (s *Store) Ensure(ctx context.Context, ref string, auth Auth) (*Image, error) {
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
func (s *Store) Push(ctx context.Context, ref string, auth Auth, progress func(Progress)) error {
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
	if err := s.Client.Push(ctx, named.String(), record.Target, client.WithResolver(s.resolver(auth))); err != nil {
		return fmt.Errorf("push image %s: %w", ref, err)
	}
	tag := "latest"
	if t, ok := named.(reference.Tagged); ok {
		tag = t.Tag()
	}
	progress(Progress{Status: fmt.Sprintf("%s: digest: %s size: %d", tag, record.Target.Digest, record.Target.Size)})
	s.publish("push", reference.FamiliarString(named), reference.FamiliarName(named))
	return nil
}
