package cluster

import (
	"net/http"
	"slices"
	"strings"

	"github.com/moby/moby/api/types/swarm"

	"github.com/shoal-dev/shoal/internal/api/convert"
	"github.com/shoal-dev/shoal/internal/api/server"
	"github.com/shoal-dev/shoal/internal/shoal"
	"github.com/shoal-dev/shoal/internal/store"
)

// tasks serves /tasks. It writes nothing.
type tasks struct {
	state StateSource
	// outdated tells whether a task was made from an older spec of its service that asks for something else.
	outdated func(*shoal.Service, *shoal.Task) bool
}

func (s *tasks) Register(rt *server.Router) {
	rt.Handle("GET /tasks", s.list)
	rt.Handle("GET /tasks/{id}", inspectHandler(s.state, findTask, toAPITask))
}

func (s *tasks) list(w http.ResponseWriter, r *http.Request) error {
	db, err := s.state.Store()
	if err != nil {
		return err
	}
	f, err := server.ReadFilters(r, "id", "label", "name", "node", "service", "desired-state", "runtime", "_up-to-date")
	if err != nil {
		return err
	}
	for _, state := range f["desired-state"] {
		if parsed, ok := shoal.ParseTaskState(state); !ok && state != "accepted" || parsed > shoal.TaskShutdown {
			return server.BadRequest("Invalid desired-state filter: '%s'", state)
		}
	}
	upToDate, given, err := f.Bool("_up-to-date")
	if err != nil {
		return err
	}
	view := db.View()
	services, err := filteredIDs(view, f, "service", findService, func(s *shoal.Service) shoal.ServiceID { return s.ID })
	if err != nil {
		return err
	}
	nodes, err := filteredIDs(view, f, "node", findNode, func(n *shoal.Node) shoal.NodeID { return n.ID })
	if err != nil {
		return err
	}
	found := view.Tasks()
	slices.SortFunc(found, func(a, b *shoal.Task) int { return strings.Compare(string(a.ID), string(b.ID)) })
	out := []swarm.Task{}
	for _, t := range found {
		if !matchesTask(f, t) || services != nil && !services[t.ServiceID] || nodes != nil && !nodes[t.NodeID] {
			continue
		}
		if service := view.Service(t.ServiceID); given && upToDate && (service == nil || s.outdated(service, t)) {
			continue
		}
		out = append(out, toAPITask(view, t))
	}
	return server.WriteJSON(w, http.StatusOK, out)
}

func matchesTask(f server.Filters, t *shoal.Task) bool {
	return f.Prefix("id", string(t.ID)) && f.LabelsNamed("label", t.Labels) && f.Equal("runtime", "container") &&
		f.Prefix("name", t.Name()) &&
		f.Equal("desired-state", filteredState(t.DesiredState))
}

// filteredIDs is the IDs of what a filter names, nil without the filter. As in Docker, what is not there is an error.
func filteredIDs[T any, ID comparable](v store.View, f server.Filters, filter string, find func(store.View, string) (*T, error), idOf func(*T) ID) (map[ID]bool, error) {
	if len(f[filter]) == 0 {
		return nil, nil
	}
	ids := map[ID]bool{}
	for _, ref := range f[filter] {
		found, err := find(v, ref)
		if err != nil {
			return nil, err
		}
		ids[idOf(found)] = true
	}
	return ids, nil
}

// filteredState is the name under which clients filter for a desired state. They cannot ask for tasks that are to be removed,
// so those count as shut down.
func filteredState(state shoal.TaskState) string {
	if state == shoal.TaskRemove {
		state = shoal.TaskShutdown
	}
	return state.String()
}

func toAPITask(v store.View, t *shoal.Task) swarm.Task {
	out := swarm.Task{
		ID: string(t.ID), Meta: toAPIMeta(t.Meta), Annotations: swarm.Annotations{Labels: convert.NonNil(t.Labels)},
		Spec: toAPITaskSpec(t.Spec), ServiceID: string(t.ServiceID), Slot: int(t.Slot), NodeID: string(t.NodeID), // #nosec G115 -- slots are few
		DesiredState: swarm.TaskState(t.DesiredState.String()),
		Status: swarm.TaskStatus{
			Timestamp: t.Status.Timestamp, State: swarm.TaskState(t.Status.State.String()), Message: t.Status.Message, Err: t.Status.Err,
			PortStatus: swarm.PortStatus{Ports: convert.List(t.Status.Ports, toAPIPort)},
		},
	}
	if c := t.Status.Container; c != nil {
		out.Status.ContainerStatus = &swarm.ContainerStatus{ContainerID: c.ContainerID, PID: c.PID, ExitCode: c.ExitCode}
	}
	if t.JobIteration != nil {
		out.Slot = max(out.Slot-1, 0) // clients count the slots of jobs from 0
		out.JobIteration = &swarm.Version{Index: *t.JobIteration}
	}
	for _, at := range t.Networks {
		attached := swarm.NetworkAttachment{Addresses: at.Addresses}
		if n := v.Network(at.NetworkID); n != nil {
			attached.Network = toAPINetwork(n)
		}
		out.NetworksAttachments = append(out.NetworksAttachments, attached)
	}
	return out
}
