package build

import (
	"cmp"
	"time"

	"github.com/moby/buildkit/client"
	"github.com/moby/buildkit/util/disk"
)

// GC is the limits of the cache, which is brought below them after builds. The zero GC is Docker's defaults. Sizes are bytes.
type GC struct {
	Disabled                   bool
	Reserved, MaxUsed, MinFree int64   // of the default rules; if all are 0 they follow from the size of the disk
	Rules                      []Prune // instead of the default rules, one after another
}

// Docker's defaults.
const (
	temporaryFor      = 48 * time.Hour      // how long what is easily made again is kept when it is much
	unusedFor         = 60 * 24 * time.Hour // how long anything is kept that nobody uses
	leastTemporary    = 512 * 1000 * 1000   // bytes that are not much
	reservedPercent   = 10
	maxUsedPercent    = 80
	minFreePercent    = 20
	temporaryPercent  = 13.8
	reservedOtherwise = 2 * 1000 * 1000 * 1000 // where the size of the disk is not known
)

// policy is the limits in BuildKit's form, for a cache on the disk of a folder.
func (g *GC) policy(folder string) ([]client.PruneInfo, error) {
	if g.Disabled {
		return nil, nil
	}
	var out []client.PruneInfo
	for _, r := range g.Rules {
		out = append(out, client.PruneInfo{All: r.All, Filter: r.Filter, KeepDuration: r.KeepFor, ReservedSpace: r.Reserved, MaxUsedSpace: r.MaxUsed, MinFreeSpace: r.MinFree})
	}
	if out != nil {
		return out, nil
	}
	reserved, maxUsed, minFree := g.Reserved, g.MaxUsed, g.MinFree
	if cmp.Or(reserved, maxUsed, minFree) == 0 {
		reserved = reservedOtherwise
		if stat, err := disk.GetDiskStat(folder); err == nil {
			reserved, maxUsed, minFree = share(stat.Total, reservedPercent), share(stat.Total, maxUsedPercent), share(stat.Total, minFreePercent)
		}
	}
	temporary := max(int64(float64(reserved)*temporaryPercent/100), leastTemporary)
	return []client.PruneInfo{
		{Filter: []string{"type==source.local", "type==exec.cachemount", "type==source.git.checkout"}, KeepDuration: temporaryFor, MaxUsedSpace: temporary},
		{KeepDuration: unusedFor, ReservedSpace: reserved, MaxUsedSpace: maxUsed, MinFreeSpace: minFree},
		{ReservedSpace: reserved, MaxUsedSpace: maxUsed, MinFreeSpace: minFree},
		{All: true, ReservedSpace: reserved, MaxUsedSpace: maxUsed, MinFreeSpace: minFree},
	}, nil
}

// share is a percentage of a disk's bytes, rounded up to gigabytes.
func share(total, percent int64) int64 {
	const gigabyte, gibibyte = 1000 * 1000 * 1000, 1 << 30
	return (total*percent/100/gibibyte + 1) * gigabyte
}
