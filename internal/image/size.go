package image

import (
	"context"

	"github.com/opencontainers/image-spec/identity"

	"github.com/shoal-dev/shoal/internal/runtime"
)

// LayerSizes is how many bytes each of an image's layers has, in their order: on the disk if it is unpacked, as it was transferred otherwise.
func (s *Store) LayerSizes(ctx context.Context, img *Image) []int64 {
	ctx = runtime.WithNamespace(ctx)
	sizes := make([]int64, len(img.Spec.RootFS.DiffIDs))
	copy(sizes, img.layers)
	for i := range img.Spec.RootFS.DiffIDs {
		chain := identity.ChainID(img.Spec.RootFS.DiffIDs[:i+1]).String()
		if usage, err := s.Client.SnapshotService(runtime.Snapshotter).Usage(ctx, chain); err == nil {
			sizes[i] = usage.Size
		}
	}
	return sizes
}
