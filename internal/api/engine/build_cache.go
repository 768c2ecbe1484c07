package engine

import (
	"net/http"

	"github.com/shoal-dev/shoal/internal/api/server"
)

// buildCache serves /build/prune. There is no builder, and so no cache of one, but `docker system prune` asks all the same.
type buildCache struct{}

func (b buildCache) Register(rt *server.Router) {
	rt.Handle("POST /build/prune", b.prune)
}

func (buildCache) prune(w http.ResponseWriter, _ *http.Request) error {
	return server.WriteJSON(w, http.StatusOK, map[string]any{"CachesDeleted": []string{}, "SpaceReclaimed": 0})
}
