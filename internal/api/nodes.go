package api

import (
	"net"
	"net/http"
	"slices"
	"strings"

	"github.com/moby/moby/api/types/swarm"

	"github.com/shoal-dev/shoal/internal/shoal"
	"github.com/shoal-dev/shoal/internal/store"
)

// nodes serves /nodes. It writes Node.Spec and removes nodes.
type nodes struct{ cluster Cluster }

func (s *nodes) register(rt *router) {
	rt.handle("GET /nodes", s.list)
	rt.handle("GET /nodes/{id}", s.inspect)
	rt.handle("POST /nodes/{id}/update", s.update)
	rt.handle("DELETE /nodes/{id}", s.remove)
}

func (s *nodes) list(w http.ResponseWriter, r *http.Request) error {
	db, err := s.cluster.Store()
	if err != nil {
		return err
	}
	f, err := readFilters(r, "id", "label", "node.label", "membership", "name", "role")
	if err != nil {
		return err
	}
	view := db.View()
	found := view.Nodes()
	slices.SortFunc(found, func(a, b *shoal.Node) int { return compareText(a.ID, b.ID) })
	out := []swarm.Node{}
	for _, n := range found {
		if f.prefix("id", n.ID) && f.labels("label", n.Description.EngineLabels) && f.labels("node.label", n.Spec.Labels) &&
			f.exact("membership", "accepted") && f.exact("role", string(n.Role)) &&
			f.any("name", func(want string) bool { return strings.HasPrefix(n.Description.Hostname, want) }) {
			out = append(out, nodeTo(view, n))
		}
	}
	return writeJSON(w, http.StatusOK, out)
}

func (s *nodes) inspect(w http.ResponseWriter, r *http.Request) error {
	db, err := s.cluster.Store()
	if err != nil {
		return err
	}
	view := db.View()
	n, err := findNode(view, r.PathValue("id"))
	if err != nil {
		return err
	}
	return writeJSON(w, http.StatusOK, nodeTo(view, n))
}

func (s *nodes) update(_ http.ResponseWriter, r *http.Request) error {
	db, err := s.cluster.Store()
	if err != nil {
		return err
	}
	var req swarm.NodeSpec
	if err := readJSON(r, &req); err != nil {
		return err
	}
	version, err := readVersion(r, "node")
	if err != nil {
		return err
	}
	spec := shoal.NodeSpec{Name: req.Name, Labels: req.Labels, Role: shoal.NodeRole(req.Role), Availability: shoal.Availability(req.Availability)}
	switch spec.Role {
	case shoal.RoleWorker, shoal.RoleManager:
	default:
		return badRequest("invalid Role: %q", req.Role)
	}
	switch spec.Availability {
	case shoal.AvailabilityActive, shoal.AvailabilityPause, shoal.AvailabilityDrain:
	default:
		return badRequest("invalid Availability: %q", req.Availability)
	}
	return db.Update(r.Context(), func(v store.View) (store.Changes, error) {
		n, err := findNode(v, r.PathValue("id"))
		if err != nil {
			return store.Changes{}, err
		}
		// What else is written to a node all the time is nothing that the user could have overlooked.
		if version > n.Version || version <= n.SpecOver {
			return store.Changes{}, shoal.ErrOutOfSequence
		}
		if n.Spec.Role == shoal.RoleManager && spec.Role == shoal.RoleWorker {
			if err := checkDemotion(v, n); err != nil {
				return store.Changes{}, err
			}
		}
		next := *n
		next.Spec, next.SpecOver = spec, n.Version
		return store.Changes{Puts: []store.Object{&next}}, nil
	})
}

// checkDemotion refuses to leave the cluster without managers, or with too few that answer.
func checkDemotion(v store.View, demoted *shoal.Node) error {
	if demoted.Manager == nil {
		return nil // it is none, or has left
	}
	others, reachable := 0, 0
	for _, n := range v.Nodes() {
		if n.ID == demoted.ID || n.Spec.Role != shoal.RoleManager || n.Manager == nil {
			continue
		}
		others++
		if n.Ready() {
			reachable++
		}
	}
	switch {
	case others == 0:
		return shoal.FailedPrecondition("attempting to demote the last manager of the swarm")
	case reachable <= others/2:
		return shoal.FailedPrecondition("can't remove member from the raft: this would result in a loss of quorum")
	}
	return nil
}

func (s *nodes) remove(_ http.ResponseWriter, r *http.Request) error {
	db, err := s.cluster.Store()
	if err != nil {
		return err
	}
	return db.Update(r.Context(), func(v store.View) (store.Changes, error) {
		n, err := findNode(v, r.PathValue("id"))
		if err != nil {
			return store.Changes{}, err
		}
		if n.Spec.Role == shoal.RoleManager || n.Manager != nil {
			return store.Changes{}, shoal.FailedPrecondition(
				"node %s is a cluster manager and is a member of the raft cluster. It must be demoted to worker before removal", n.ID)
		}
		if n.Status.State == shoal.NodeReady && !flag(r, "force") {
			return store.Changes{}, shoal.FailedPrecondition("node %s is not down and can't be removed", n.ID)
		}
		return store.Changes{Deletes: []store.Object{n}}, nil
	})
}

func nodeTo(v store.View, n *shoal.Node) swarm.Node {
	d := n.Description
	out := swarm.Node{
		ID: n.ID, Meta: metaTo(n.Meta),
		Spec: swarm.NodeSpec{
			Annotations: swarm.Annotations{Name: n.Spec.Name, Labels: orEmpty(n.Spec.Labels)},
			Role:        swarm.NodeRole(n.Spec.Role), Availability: swarm.NodeAvailability(n.Spec.Availability),
		},
		Description: swarm.NodeDescription{
			Hostname:  d.Hostname,
			Platform:  swarm.Platform{Architecture: d.Platform.Architecture, OS: d.Platform.OS},
			Resources: amountsTo(d.Resources),
			Engine: swarm.EngineDescription{
				EngineVersion: d.EngineVersion, Labels: d.EngineLabels,
				Plugins: each(d.Plugins, func(p shoal.Plugin) swarm.PluginDescription {
					return swarm.PluginDescription{Type: p.Type, Name: p.Name}
				}),
			},
			TLSInfo: tlsInfoTo(d.TLS),
		},
		Status: swarm.NodeStatus{State: swarm.NodeState(n.Status.State), Message: n.Status.Message, Addr: n.Status.Addr},
	}
	if m := n.Manager; m != nil {
		out.ManagerStatus = &swarm.ManagerStatus{
			Leader: m.MemberID != "" && m.MemberID == v.Leader(), Reachability: swarm.ReachabilityUnreachable, Addr: m.Addr,
		}
		if n.Ready() {
			out.ManagerStatus.Reachability = swarm.ReachabilityReachable
		}
		if host, _, err := net.SplitHostPort(m.Addr); err == nil && out.Status.Addr == "" {
			out.Status.Addr = host
		}
	}
	return out
}
