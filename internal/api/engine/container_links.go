package engine

import (
	"net/http"
	"slices"
	"strings"

	"github.com/shoal-dev/shoal/internal/api/server"
	"github.com/shoal-dev/shoal/internal/container"
	"github.com/shoal-dev/shoal/internal/shoal"
)

// splitLink splits a link, "container:alias"; the alias is the container's name if there is none.
func splitLink(link string) (target, alias string) {
	target, alias, _ = strings.Cut(link, ":")
	if alias == "" {
		alias = target
	}
	return strings.TrimPrefix(target, "/"), alias
}

// linkNames is the names that containers have because others are linked to them, such as "/web/db", by the target as the link names it.
func linkNames(all []container.Info) map[string][]string {
	names := map[string][]string{}
	for _, info := range all {
		for _, link := range info.Spec.Network.Links {
			target, alias := splitLink(link)
			names[target] = append(names[target], "/"+info.Name+"/"+alias)
		}
	}
	return names
}

// namesOf is a container's name and those that it has because of links.
func namesOf(info container.Info, links map[string][]string) []string {
	return slices.Concat([]string{"/" + info.Name}, links[info.Name], links[info.ID], links[info.ID[:min(shortID, len(info.ID))]])
}

// removeLink removes a link from a container, which is named by the container and the alias: "web/db".
func (c *containers) removeLink(w http.ResponseWriter, r *http.Request) error {
	parent, alias := r.PathValue("id"), r.PathValue("alias")
	if !server.BoolParam(r, "link") { // the name of the container that the link is to
		r.SetPathValue("id", parent+"/"+alias)
		return c.remove(w, r)
	}
	info, err := c.engine.Inspect(parent)
	if err != nil {
		return server.Errorf(http.StatusNotFound, "No such container: %s/%s", parent, alias)
	}
	return server.NoContent(w, c.engine.UpdateNetwork(info.ID, func(spec *shoal.SandboxSpec, _ *shoal.Sandbox) error {
		left := slices.DeleteFunc(slices.Clone(spec.Links), func(link string) bool {
			_, a := splitLink(link)
			return a == alias
		})
		if len(left) == len(spec.Links) {
			return server.Errorf(http.StatusNotFound, "No such container: %s/%s", parent, alias)
		}
		spec.Links = left
		return nil
	}))
}
