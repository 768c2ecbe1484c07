package api

import (
	"maps"
	"net/http"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/moby/moby/api/types/swarm"

	"github.com/shoal-dev/shoal/internal/shoal"
	"github.com/shoal-dev/shoal/internal/store"
)

// tasks serves /tasks. It writes nothing.
type tasks struct {
	cluster Cluster
	// stale tells whether a task was made from an older spec of its service that asks for something else.
	stale func(*shoal.Service, *shoal.Task) bool
}

func (s *tasks) register(rt *router) {
	rt.handle("GET /tasks", s.list)
	rt.handle("GET /tasks/{id}", s.inspect)
}

func (s *tasks) list(w http.ResponseWriter, r *http.Request) error {
	db, err := s.cluster.Store()
	if err != nil {
		return err
	}
	f, err := readFilters(r, "id", "label", "name", "node", "service", "desired-state", "runtime", "_up-to-date")
	if err != nil {
		return err
	}
	for _, state := range f["desired-state"] {
		if parsed, ok := shoal.ParseTaskState(state); !ok && state != "accepted" || parsed > shoal.TaskShutdown {
			return badRequest("invalid desired state: %s", state)
		}
	}
	fresh, onlyFresh, err := f.boolean("_up-to-date")
	if err != nil {
		return err
	}
	view := db.View()
	found := view.Tasks()
	slices.SortFunc(found, func(a, b *shoal.Task) int { return compareText(a.ID, b.ID) })
	out := []swarm.Task{}
	for _, t := range found {
		if !taskPasses(view, f, t) {
			continue
		}
		if service := view.Service(t.ServiceID); onlyFresh && fresh && (service == nil || s.stale(service, t)) {
			continue
		}
		out = append(out, taskTo(view, t))
	}
	return writeJSON(w, http.StatusOK, out)
}

func taskPasses(v store.View, f filters, t *shoal.Task) bool {
	return f.prefix("id", t.ID) && f.labels("label", t.Labels) && f.exact("runtime", "container") &&
		f.any("name", func(want string) bool { return strings.Contains(t.Name(), want) }) &&
		f.any("desired-state", func(want string) bool { return desiredMatches(t.DesiredState, want) }) &&
		f.any("service", func(want string) bool {
			return t.ServiceID != "" && (strings.HasPrefix(t.ServiceID, want) || t.ServiceName == want)
		}) &&
		f.any("node", func(want string) bool {
			node := v.Node(t.NodeID)
			return t.NodeID != "" && (strings.HasPrefix(t.NodeID, want) || (node != nil && node.Description.Hostname == want))
		})
}

// desiredMatches takes tasks that are to be removed for shut down, as Docker's clients know no other word.
func desiredMatches(state shoal.TaskState, want string) bool {
	return state.String() == want || (want == "shutdown" && state == shoal.TaskRemove)
}

func (s *tasks) inspect(w http.ResponseWriter, r *http.Request) error {
	db, err := s.cluster.Store()
	if err != nil {
		return err
	}
	view := db.View()
	t, err := findTask(view, r.PathValue("id"))
	if err != nil {
		return err
	}
	return writeJSON(w, http.StatusOK, taskTo(view, t))
}

func taskTo(v store.View, t *shoal.Task) swarm.Task {
	out := swarm.Task{
		ID: t.ID, Meta: metaTo(t.Meta), Annotations: swarm.Annotations{Labels: orEmpty(t.Labels)},
		Spec: taskSpecTo(t.Spec), ServiceID: t.ServiceID, Slot: int(t.Slot), NodeID: t.NodeID, // #nosec G115 -- slots are few
		DesiredState: swarm.TaskState(t.DesiredState.String()),
		Status: swarm.TaskStatus{
			Timestamp: t.Status.Timestamp, State: swarm.TaskState(t.Status.State.String()), Message: t.Status.Message, Err: t.Status.Err,
			PortStatus: swarm.PortStatus{Ports: each(t.Status.Ports, portTo)},
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
		attached := swarm.NetworkAttachment{Addresses: each(at.Addresses, prefixOf)}
		if n := v.Network(at.NetworkID); n != nil {
			attached.Network = swarmNetworkTo(n)
		}
		out.NetworksAttachments = append(out.NetworksAttachments, attached)
	}
	return out
}

// swarmNetworkTo is a network as it stands within a task.
func swarmNetworkTo(n *shoal.Network) swarm.Network {
	out := swarm.Network{
		ID: n.ID, Meta: metaTo(n.Meta),
		Spec: swarm.NetworkSpec{
			Annotations:         swarm.Annotations{Name: n.Spec.Name, Labels: orEmpty(n.Spec.Labels)},
			DriverConfiguration: &swarm.Driver{Options: n.Spec.Options},
			IPv6Enabled:         hasIPv6(*n), Internal: n.Spec.Internal, Attachable: n.Spec.Attachable, Ingress: n.Spec.Ingress,
			IPAMOptions: &swarm.IPAMOptions{Driver: swarm.Driver{Name: n.Spec.IPAMDriver, Options: n.Spec.IPAMOptions}, Configs: each(n.Spec.IPAM, ipamTo)},
			Scope:       shoal.ScopeSwarm,
		},
		DriverState: swarm.Driver{Name: shoal.DriverOverlay, Options: overlayOptions(n)},
		IPAMOptions: &swarm.IPAMOptions{Driver: swarm.Driver{Name: "default"}, Configs: each(n.IPAM, ipamTo)},
	}
	if !n.Spec.Ingress {
		out.Spec.DriverConfiguration.Name = shoal.DriverOverlay
	}
	return out
}

func ipamTo(s shoal.Subnet) swarm.IPAMConfig {
	out := swarm.IPAMConfig{Subnet: prefixOf(s.Subnet), Range: prefixOf(s.Range)}
	if gateway, err := netip.ParseAddr(s.Gateway); err == nil {
		out.Gateway = gateway
	}
	return out
}

// overlayOptions is the options of an overlay network with its VXLAN ID among them.
func overlayOptions(n *shoal.Network) map[string]string {
	out := map[string]string{}
	maps.Copy(out, n.Spec.Options)
	if n.VNI != 0 {
		out["com.docker.network.driver.overlay.vxlanid_list"] = strconv.FormatUint(uint64(n.VNI), 10)
	}
	return out
}
