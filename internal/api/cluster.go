package api

import (
	"fmt"
	"net/http"
	"strconv"

	"github.com/shoal-dev/shoal/internal/shoal"
	"github.com/shoal-dev/shoal/internal/store"
)

// Cluster gives the cluster's state, or the reason, in Docker's words, why this node has none: it is in no swarm, or it is a
// worker.
type Cluster interface {
	Store() (*store.Store, error)
}

// find looks an object up as users name it: by its ID, else by its name, else by the beginning of its ID.
func find[T any](kind, name string, byID func(shoal.ID) *T, byName func(string) []*T, byPrefix func(string) []*T) (*T, error) {
	if name != "" {
		if o := byID(name); o != nil {
			return o, nil
		}
		found := byName(name)
		if len(found) == 0 {
			found = byPrefix(name)
		}
		switch len(found) {
		case 0:
		case 1:
			return found[0], nil
		default:
			return nil, fail(http.StatusBadRequest, "%s %s is ambiguous (%d matches found)", kind, name, len(found))
		}
	}
	return nil, fail(http.StatusNotFound, "%s %s not found", kind, name)
}

// one makes a lookup of at most one object a list.
func one[T any](byName func(string) *T) func(string) []*T {
	return func(name string) []*T {
		if o := byName(name); o != nil {
			return []*T{o}
		}
		return nil
	}
}

func findService(v store.View, name string) (*shoal.Service, error) {
	return find("service", name, v.Service, one(v.ServiceByName), v.ServicesByPrefix)
}

func findNode(v store.View, name string) (*shoal.Node, error) {
	return find("node", name, v.Node, v.NodesByName, v.NodesByPrefix)
}

// findTask also knows tasks by the names of their containers.
func findTask(v store.View, name string) (*shoal.Task, error) {
	return find("task", name, v.Task, func(name string) []*shoal.Task {
		for _, t := range v.Tasks() {
			if t.Name() == name {
				return []*shoal.Task{t}
			}
		}
		return nil
	}, v.TasksByPrefix)
}

// readVersion is the version parameter of an update.
func readVersion(r *http.Request, kind string) (uint64, error) {
	text := r.FormValue("version")
	version, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		return 0, fail(http.StatusBadRequest, "%s", fmt.Sprintf("invalid %s version '%s': %v", kind, text, err))
	}
	return version, nil
}
