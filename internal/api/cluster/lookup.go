package cluster

import (
	"net/http"
	"strconv"

	"github.com/moby/moby/api/types/swarm"

	"github.com/shoal-dev/shoal/internal/api/server"
	"github.com/shoal-dev/shoal/internal/shoal"
	"github.com/shoal-dev/shoal/internal/store"
)

// lookup finds an object as users name it: by its ID, else by its name, else by the beginning of its ID. If there is none the error
// has status 404, if there are several 400.
func lookup[T any, ID ~string](kind, ref string, byID func(ID) *T, byName, byPrefix func(string) []*T) (*T, error) {
	if ref != "" {
		if o := byID(ID(ref)); o != nil {
			return o, nil
		}
		found := byName(ref)
		if len(found) == 0 {
			found = byPrefix(ref)
		}
		switch len(found) {
		case 0:
		case 1:
			return found[0], nil
		default:
			return nil, server.BadRequest("%s %s is ambiguous (%d matches found)", kind, ref, len(found))
		}
	}
	return nil, server.Errorf(http.StatusNotFound, "%s %s not found", kind, ref)
}

// unique turns a lookup that returns one object or nil into one that returns a list.
func unique[T any](byName func(string) *T) func(string) []*T {
	return func(name string) []*T {
		if o := byName(name); o != nil {
			return []*T{o}
		}
		return nil
	}
}

func findService(v store.View, ref string) (*shoal.Service, error) {
	return lookup("service", ref, v.Service, unique(v.ServiceByName), v.ServicesByPrefix)
}

func findNode(v store.View, ref string) (*shoal.Node, error) {
	return lookup("node", ref, v.Node, v.NodesByName, v.NodesByPrefix)
}

func findNetwork(v store.View, ref string) (*shoal.Network, error) {
	return lookup("network", ref, v.Network, unique(v.NetworkByName), v.NetworksByPrefix)
}

// findTask also finds a task by the name of its container.
func findTask(v store.View, ref string) (*shoal.Task, error) {
	byName := func(name string) *shoal.Task {
		for _, t := range v.Tasks() {
			if t.Name() == name {
				return t
			}
		}
		return nil
	}
	return lookup("task", ref, v.Task, unique(byName), v.TasksByPrefix)
}

// objectVersion is the version parameter of an update: the version of the object that the client has seen.
func objectVersion(r *http.Request, kind string) (uint64, error) {
	text := r.FormValue("version")
	version, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		return 0, server.BadRequest("invalid %s version '%s': %v", kind, text, err)
	}
	return version, nil
}

func toAPIMeta(m shoal.Meta) swarm.Meta {
	return swarm.Meta{Version: swarm.Version{Index: m.Version}, CreatedAt: m.CreatedAt, UpdatedAt: m.UpdatedAt}
}
