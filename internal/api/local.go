package api

import (
	"log/slog"

	"github.com/shoal-dev/shoal/internal/container"
	"github.com/shoal-dev/shoal/internal/image"
	"github.com/shoal-dev/shoal/internal/volume"
)

// registerLocal adds the resources of this node alone: containers, images, volumes.
func registerLocal(rt *router, log *slog.Logger, engine *container.Engine, images *image.Store, volumes *volume.Store) {
	(&containers{log: log, engine: engine, images: images, volumes: volumes}).register(rt)
	(&imageAPI{log: log, images: images, using: engine.Using}).register(rt)
	(&volumeAPI{volumes: volumes}).register(rt)
}
