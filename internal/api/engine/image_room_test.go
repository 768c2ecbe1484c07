package engine

import (
	"testing"

	"github.com/containerd/errdefs"

	testimages "github.com/shoal-dev/shoal/test/images"
)

// After a refused load no container could be started, though the layers of its image were there.
func TestContainersStartWhereNoImageHasRoom(t *testing.T) {
	h := newBusyboxHost(t)
	paths, err := testimages.Build(t.Context(), testimages.CacheDir())
	if err != nil {
		t.Fatal(err)
	}
	full := errdefs.ErrResourceExhausted.WithMessage("the disk is nearly full")
	h.left.Store(1 << 20) // the archive comes in parts that have room, what is in it has none
	h.room.Store(&full)
	h.expect([]step{
		{args: []string{"load", "-i", paths["nginx"]}, want: "the disk is nearly full", code: 1},
		{args: words("run --rm --network none busybox echo started"), want: "started"},
	})
}
