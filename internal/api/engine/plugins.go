package engine

import (
	"fmt"
	"net/http"
	"path"
	"strings"

	"github.com/containerd/errdefs"

	"github.com/shoal-dev/shoal/internal/api/server"
)

// plugins serves /plugins. A node runs no managed plugins, so the list is empty, no name is found, and what would make one is refused. Drivers that are
// built in are in /info.
type plugins struct{}

func (p plugins) Register(rt *server.Router) {
	rt.Handle("GET /plugins", p.list)
	rt.Handle("GET /plugins/privileges", p.refuse)
	rt.Handle("POST /plugins/pull", p.refuse)
	rt.Handle("POST /plugins/create", p.refuse)
	// The name of a plugin can hold slashes, as that of an image.
	rt.Handle("GET /plugins/{rest...}", p.lookup("json"))
	rt.Handle("POST /plugins/{rest...}", p.lookup("enable", "disable", "push", "upgrade", "set"))
	rt.Handle("DELETE /plugins/{rest...}", func(_ http.ResponseWriter, r *http.Request) error { return noSuchPlugin(r.PathValue("rest")) })
}

func (plugins) list(w http.ResponseWriter, r *http.Request) error {
	f, err := server.ReadFilters(r, "capability", "enabled")
	if err != nil {
		return err
	}
	if _, _, err := f.Bool("enabled"); err != nil {
		return err
	}
	return server.WriteJSON(w, http.StatusOK, []struct{}{})
}

// refuse answers what would bring a plugin to the node.
func (plugins) refuse(http.ResponseWriter, *http.Request) error {
	return errdefs.ErrNotImplemented.WithMessage("managed plugins are not supported by this engine: use its built-in volume, network and log drivers, which `docker info` lists")
}

// lookup answers one of the actions on a plugin: there is no such plugin.
func (plugins) lookup(actions ...string) server.Handler {
	return func(_ http.ResponseWriter, r *http.Request) error {
		name, action := path.Split(r.PathValue("rest"))
		for _, known := range actions {
			if action == known && name != "" {
				return noSuchPlugin(strings.TrimSuffix(name, "/"))
			}
		}
		return server.Errorf(http.StatusNotFound, "page not found")
	}
}

func noSuchPlugin(name string) error {
	return errdefs.ErrNotFound.WithMessage(fmt.Sprintf("plugin %q not found", name))
}
