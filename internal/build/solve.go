package build

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"strconv"
	"strings"

	"github.com/containerd/errdefs"
	controlapi "github.com/moby/buildkit/api/services/control"
	"github.com/moby/buildkit/client"
	"github.com/moby/buildkit/exporter/containerimage/exptypes"
	"github.com/moby/buildkit/identity"
	"github.com/moby/buildkit/util/entitlements"
	"golang.org/x/sync/errgroup"

	"github.com/shoal-dev/shoal/internal/registry"
)

// Request is a build of a Dockerfile. Words and numbers mean what they mean in Docker's API.
type Request struct {
	ID string // by which its client can cancel it; may be empty
	// Body is the archive of the context, if neither Remote nor Session gives it.
	Body    io.ReadCloser
	Remote  string // the address of the context: a Git repository, an archive or a Dockerfile
	Session string // the session from which BuildKit takes the context, secrets and credentials
	// SessionContext tells that the context comes from the session; else the session gives credentials and secrets only.
	SessionContext bool
	// Auth is the accounts with registries, by the names that clients have for these; it does not count if there is a session.
	Auth map[string]registry.Auth

	Dockerfile, Target, Platform, NetworkMode, CgroupParent string
	Tags                                                    []string
	Args                                                    map[string]*string
	Labels                                                  map[string]string
	CacheFrom                                               []string
	NoCache, Pull                                           bool
	ExtraHosts                                              []string // "name=address"
	Ulimits                                                 []string // "nofile=1024:2048"
	ShmSize                                                 int64    // bytes; 0 for the default
	Limits                                                  Limits
	// Exporter is what becomes of the result; "" for an image of the node's, "cacheonly" for nothing.
	Exporter      string
	ExporterAttrs map[string]string
}

// Limits is what the process of each step may use. Zero is no limit.
type Limits struct {
	Memory, MemorySwap, CPUShares, CPUPeriod, CPUQuota int64
	CpusetCpus, CpusetMems                             string
}

// Solve builds, and reports progress as it comes. It returns the ID of the image, which is empty if another exporter has the result. The end of ctx, and
// Cancel, end it and kill the processes of its steps.
func (b *Builder) Solve(ctx context.Context, r Request, progress func(Progress) error) (imageID string, err error) {
	e, err := b.engine(ctx)
	if err != nil {
		return "", err
	}
	endSession, err := b.withCredentials(ctx, &r)
	if err != nil {
		return "", err
	}
	defer endSession()
	solve, err := b.solveRequest(&r)
	if err != nil {
		return "", err
	}
	if r.Body != nil && r.Remote == "" && !r.SessionContext {
		address, forget := b.bodies.add(r.Body)
		defer forget()
		solve.FrontendAttrs["context"] = address
	}
	ctx, done := b.cancellable(ctx, r.ID)
	defer done()
	var answer *controlapi.SolveResponse
	group, groupCtx := errgroup.WithContext(ctx)
	group.Go(func() error {
		var err error
		answer, err = e.client.Solve(groupCtx, solve)
		return err
	})
	group.Go(func() error { return e.follow(context.WithoutCancel(ctx), solve.Ref, progress) })
	if err := group.Wait(); err != nil {
		return "", solveError(ctx, err)
	}
	return answer.ExporterResponse[exptypes.ExporterImageConfigDigestKey], nil
}

// cancellable makes a build known by its client's ID.
func (b *Builder) cancellable(ctx context.Context, id string) (context.Context, func()) {
	ctx, cancel := context.WithCancel(ctx)
	if id == "" {
		return ctx, cancel
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.jobs[id] = cancel
	return ctx, func() {
		cancel()
		b.mu.Lock()
		defer b.mu.Unlock()
		delete(b.jobs, id)
	}
}

// follow reports a build's progress until it has ended, also when it is cancelled: what comes last says why.
func (e *engine) follow(ctx context.Context, ref string, progress func(Progress) error) error {
	n := newNarrator()
	stream, err := e.client.Status(ctx, &controlapi.StatusRequest{Ref: ref})
	if err != nil {
		return err
	}
	for {
		part, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		news, err := n.progress(part)
		if err == nil {
			err = progress(news)
		}
		if err != nil {
			return err
		}
	}
}

// solveError is an error of a build as its user sees it: a cancelled one says so, others have BuildKit's words.
func solveError(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return fmt.Errorf("build canceled: %w", ctx.Err())
	}
	err = stepError(err)
	var step *StepError
	switch {
	case errors.As(err, &step):
		return err
	case strings.Contains(err.Error(), "dockerfile parse error"):
		return errdefs.ErrInvalidArgument.WithMessage(err.Error())
	default:
		return errdefs.ErrUnknown.WithMessage(err.Error()) // without the stacks that BuildKit's errors have
	}
}

func (b *Builder) solveRequest(r *Request) (*controlapi.SolveRequest, error) {
	attrs, err := b.frontendAttrs(r)
	if err != nil {
		return nil, err
	}
	solve := &controlapi.SolveRequest{Ref: identity.NewID(), Frontend: "dockerfile.v0", FrontendAttrs: attrs, Session: r.Session, Cache: &controlapi.CacheOptions{}}
	if r.NetworkMode == "host" {
		solve.Entitlements = []string{string(entitlements.EntitlementNetworkHost)}
	}
	for _, ref := range r.CacheFrom {
		solve.Cache.Imports = append(solve.Cache.Imports, &controlapi.CacheOptionsEntry{Type: "registry", Attrs: map[string]string{"ref": ref}})
	}
	if inline := r.Args["BUILDKIT_INLINE_CACHE"]; inline != nil {
		if on, err := strconv.ParseBool(*inline); err == nil && on {
			solve.Cache.Exports = append(solve.Cache.Exports, &controlapi.CacheOptionsEntry{Type: "inline"})
		}
	}
	to := &controlapi.Exporter{Type: r.Exporter, Attrs: map[string]string{}}
	maps.Copy(to.Attrs, r.ExporterAttrs)
	switch r.Exporter {
	case "cacheonly":
		return solve, nil
	case "", mobyExporter, client.ExporterImage:
		if to.Type == "" {
			to.Type = mobyExporter
		}
		names, err := fullNames(r.Tags)
		if err != nil {
			return nil, err
		}
		if len(names) > 0 {
			to.Attrs[string(exptypes.OptKeyName)] = joined(names)
		}
	}
	solve.Exporters = []*controlapi.Exporter{to}
	return solve, nil
}
