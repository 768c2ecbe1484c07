package build

import (
	"context"
	"errors"
	"io"
	"time"

	controlapi "github.com/moby/buildkit/api/services/control"
)

// Record is a piece of the cache.
type Record struct {
	ID          string
	Parents     []string
	Type        string // regular, source.local, exec.cachemount, frontend, internal, source.git.checkout
	Description string
	InUse       bool // by a build that runs
	Shared      bool // with an image
	Size        int64
	CreatedAt   time.Time
	LastUsedAt  time.Time // zero if it has not been used since it was made
	UsageCount  int
}

// Usage lists the cache. Where nothing was ever built it starts nothing.
func (b *Builder) Usage(ctx context.Context) ([]Record, error) {
	if !b.used() {
		return nil, nil
	}
	e, err := b.engine(ctx)
	if err != nil {
		return nil, err
	}
	answer, err := e.client.DiskUsage(ctx, &controlapi.DiskUsageRequest{})
	if err != nil {
		return nil, err
	}
	var all []Record
	for _, r := range answer.Record {
		all = append(all, recordOf(r))
	}
	return all, nil
}

func recordOf(r *controlapi.UsageRecord) Record {
	out := Record{
		ID: r.ID, Parents: r.Parents, Type: r.RecordType, Description: r.Description, InUse: r.InUse, Shared: r.Shared, Size: r.Size, UsageCount: int(r.UsageCount),
	}
	if r.CreatedAt != nil {
		out.CreatedAt = r.CreatedAt.AsTime()
	}
	if r.LastUsedAt != nil {
		out.LastUsedAt = r.LastUsedAt.AsTime()
	}
	return out
}

// Prune is what of the cache is to be removed. A record in use stays in any case.
type Prune struct {
	All      bool          // also what images share and what BuildKit has for itself
	KeepFor  time.Duration // what was used within it stays; 0 keeps nothing
	Filter   []string      // in BuildKit's words; each must hold
	Reserved int64         // bytes that always stay
	MaxUsed  int64         // bytes that may stay; 0 for no bound
	MinFree  int64         // bytes of the disk that are to be free; 0 for no bound
	None     bool          // nothing: what is asked for is something that no record has
}

// Prune removes records of the cache and returns them. After an error, those that it had removed until then are returned with it.
func (b *Builder) Prune(ctx context.Context, p Prune) ([]Record, error) {
	if !b.used() || p.None {
		return nil, nil
	}
	e, err := b.engine(ctx)
	if err != nil {
		return nil, err
	}
	stream, err := e.client.Prune(ctx, &controlapi.PruneRequest{
		All: p.All, KeepDuration: int64(p.KeepFor), Filter: p.Filter, ReservedSpace: p.Reserved, MaxUsedSpace: p.MaxUsed, MinFreeSpace: p.MinFree,
	})
	if err != nil {
		return nil, err
	}
	var removed []Record
	for {
		r, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return removed, nil
		}
		if err != nil {
			return removed, err
		}
		removed = append(removed, recordOf(r))
	}
}
