package image

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/errdefs"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/semaphore"
)

// Limits is how much the node transfers at once. Zero is no limit, and one attempt.
type Limits struct {
	Downloads, Uploads int // layers at once, of all pulls and of all pushes
	Attempts           int // of each layer of a pull
}

// retryAfter is how much longer each attempt to fetch a layer waits than the one before, as in Docker.
const retryAfter = 5 * time.Second

// limits is the limits in force.
type limits struct {
	downloads, uploads atomic.Pointer[semaphore.Weighted] // nil for no limit
	attempts           atomic.Int64
	retryAfter         time.Duration
}

// SetLimits replaces the limits. What is under way goes on under those it began with.
func (s *Store) SetLimits(l Limits) {
	s.downloads.Store(weighted(l.Downloads))
	s.uploads.Store(weighted(l.Uploads))
	s.attempts.Store(int64(l.Attempts))
}

func weighted(n int) *semaphore.Weighted {
	if n <= 0 {
		return nil
	}
	return semaphore.NewWeighted(int64(n))
}

// limited fetches layers by fetch, no more at once than the limit says, and again when the registry fails.
func (s *Store) limited(fetch images.Handler, attempts int64, progress func(Progress)) images.Handler {
	limit := s.downloads.Load()
	return images.HandlerFunc(func(ctx context.Context, d ocispec.Descriptor) ([]ocispec.Descriptor, error) {
		if !images.IsLayerType(d.MediaType) {
			return fetch.Handle(ctx, d)
		}
		for attempt := int64(1); ; attempt++ {
			children, err := s.fetchOne(ctx, limit, fetch, d)
			if err == nil || attempt >= attempts || !passing(ctx, err) {
				return children, err
			}
			if err := s.pause(ctx, attempt, d, progress); err != nil {
				return nil, err
			}
		}
	})
}

func (s *Store) fetchOne(ctx context.Context, limit *semaphore.Weighted, fetch images.Handler, d ocispec.Descriptor) ([]ocispec.Descriptor, error) {
	if limit != nil {
		if err := limit.Acquire(ctx, 1); err != nil {
			return nil, err
		}
		defer limit.Release(1)
	}
	return fetch.Handle(ctx, d)
}

// passing tells whether an error may go away by itself: that of a connection or of a registry out of order, and none that says what is wrong.
func passing(ctx context.Context, err error) bool {
	switch {
	case ctx.Err() != nil, errors.Is(err, images.ErrSkipDesc), errors.Is(err, images.ErrStopHandler):
		return false
	case errdefs.IsNotFound(err), errdefs.IsUnauthorized(err), errdefs.IsPermissionDenied(err), errdefs.IsInvalidArgument(err), errdefs.IsResourceExhausted(err):
		return false
	}
	return !errdefs.IsFailedPrecondition(err) && !errdefs.IsDataLoss(err) // bytes without their digest
}

// pause waits before the next attempt, and counts the seconds for who watches.
func (s *Store) pause(ctx context.Context, attempt int64, d ocispec.Descriptor, progress func(Progress)) error {
	for left := time.Duration(attempt) * s.retryAfter; left > 0; left -= time.Second {
		unit := "seconds"
		if left <= time.Second {
			unit = "second"
		}
		progress(Progress{ID: shortDigest(d), Status: fmt.Sprintf("Retrying in %d %s", (left+time.Second-1)/time.Second, unit)})
		select {
		case <-time.After(min(left, time.Second)):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}
