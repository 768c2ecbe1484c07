package cluster

import (
	"net"
	"net/http"
	"slices"
	"strings"

	"github.com/moby/moby/api/types/swarm"

	"github.com/shoal-dev/shoal/internal/api/convert"
	"github.com/shoal-dev/shoal/internal/api/server"
	"github.com/shoal-dev/shoal/internal/shoal"
	"github.com/shoal-dev/shoal/internal/store"
)

// nodes serves /nodes. It writes Node.Spec and deletes nodes.
type nodes struct{ state StateSource }

func (s *nodes) Register(rt *server.Router) {
	rt.Handle("GET /nodes", s.list)
	rt.Handle("GET /nodes/{id}", inspectHandler(s.state, findNode, toAPINode))
	rt.Handle("POST /nodes/{id}/update", s.update)
	rt.Handle("DELETE /nodes/{id}", s.remove)
}

func (s *nodes) list(w http.ResponseWriter, r *http.Request) error {
	db, err := s.state.Store()
	if err != nil {
		return err
	}
	f, err := server.ReadFilters(r, "id", "label", "node.label", "membership", "name", "role")
	if err != nil {
		return err
	}
	if err := validateNodeFilters(f); err != nil {
		return err
	}
	view := db.View()
	found := view.Nodes()
	slices.SortFunc(found, func(a, b *shoal.Node) int { return strings.Compare(string(a.ID), string(b.ID)) })
	out := []swarm.Node{}
	for _, n := range found {
		if f.Prefix("id", string(n.ID)) && f.LabelsNamed("label", n.Description.EngineLabels) && f.LabelsNamed("node.label", n.Spec.Labels) &&
			f.Any("membership", func(want string) bool { return strings.EqualFold(want, "accepted") }) &&
			f.Any("role", func(want string) bool { return strings.EqualFold(want, string(n.Role)) }) &&
			f.Prefix("name", n.Description.Hostname) {
			out = append(out, toAPINode(view, n))
		}
	}
	return server.WriteJSON(w, http.StatusOK, out)
}

// validateNodeFilters refuses what nothing could pass.
func validateNodeFilters(f server.Filters) error {
	for _, c := range []struct {
		name    string
		allowed []string
	}{{"role", []string{"worker", "manager"}}, {"membership", []string{"accepted", "pending"}}} {
		for _, value := range f[c.name] {
			if !slices.Contains(c.allowed, strings.ToLower(value)) {
				return server.BadRequest("Invalid %s filter: '%s'", c.name, value)
			}
		}
	}
	return nil
}

func (s *nodes) update(_ http.ResponseWriter, r *http.Request) error {
	db, err := s.state.Store()
	if err != nil {
		return err
	}
	var req swarm.NodeSpec
	if err := server.ReadJSON(r, &req); err != nil {
		return err
	}
	version, err := objectVersion(r, "node")
	if err != nil {
		return err
	}
	spec, err := fromAPINodeSpec(req)
	if err != nil {
		return err
	}
	return db.Update(r.Context(), func(v store.View) (store.Changes, error) {
		n, err := findNode(v, r.PathValue("id"))
		if err != nil {
			return store.Changes{}, err
		}
		// A node's status and description change often, and with them its version. Only another change of its spec since the
		// version that the client has seen makes the update one that would overwrite what the user does not know.
		if version > n.Version || version <= n.SpecOver {
			return store.Changes{}, shoal.ErrOutOfSequence
		}
		if n.Spec.Role == shoal.RoleManager && spec.Role == shoal.RoleWorker {
			if err := validateDemotion(v, n); err != nil {
				return store.Changes{}, err
			}
		}
		next := *n
		next.Spec, next.SpecOver = spec, n.Version
		return store.Changes{Puts: []store.Object{&next}}, nil
	})
}

// validateDemotion refuses to leave the cluster without managers, or with too few that answer.
func validateDemotion(v store.View, demoted *shoal.Node) error {
	if demoted.Manager == nil {
		return nil // the node is no manager now, so nothing is lost
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
	force := server.BoolParam(r, "force")
	return deleteObject(s.state, r, findNode, func(_ store.View, n *shoal.Node) error { return validateRemoval(n, force) })
}

// validateRemoval refuses to remove a manager and, without force, a node that is Ready.
func validateRemoval(n *shoal.Node, force bool) error {
	if n.Spec.Role == shoal.RoleManager || n.Manager != nil {
		return shoal.FailedPrecondition(
			"node %s is a cluster manager and is a member of the raft cluster. It must be demoted to worker before removal", n.ID)
	}
	if n.Status.State == shoal.NodeReady && !force {
		return shoal.FailedPrecondition("node %s is not down and can't be removed", n.ID)
	}
	return nil
}

func fromAPINodeSpec(req swarm.NodeSpec) (shoal.NodeSpec, error) {
	spec := shoal.NodeSpec{Name: req.Name, Labels: req.Labels, Role: shoal.NodeRole(req.Role), Availability: shoal.Availability(req.Availability)}
	switch spec.Role {
	case shoal.RoleWorker, shoal.RoleManager:
	default:
		return spec, server.BadRequest("invalid Role: %q", req.Role)
	}
	switch spec.Availability {
	case shoal.AvailabilityActive, shoal.AvailabilityPause, shoal.AvailabilityDrain:
	default:
		return spec, server.BadRequest("invalid Availability: %q", req.Availability)
	}
	return spec, nil
}

func toAPINode(v store.View, n *shoal.Node) swarm.Node {
	d := n.Description
	out := swarm.Node{
		ID: string(n.ID), Meta: toAPIMeta(n.Meta),
		Spec: swarm.NodeSpec{
			Annotations: swarm.Annotations{Name: n.Spec.Name, Labels: convert.NonNil(n.Spec.Labels)},
			Role:        swarm.NodeRole(n.Spec.Role), Availability: swarm.NodeAvailability(n.Spec.Availability),
		},
		Description: swarm.NodeDescription{
			Hostname:  d.Hostname,
			Platform:  swarm.Platform{Architecture: d.Platform.Architecture, OS: d.Platform.OS},
			Resources: toAPIResources(d.Resources),
			Engine: swarm.EngineDescription{
				EngineVersion: d.EngineVersion, Labels: d.EngineLabels,
				Plugins: convert.List(d.Plugins, func(p shoal.Plugin) swarm.PluginDescription {
					return swarm.PluginDescription{Type: p.Type, Name: p.Name}
				}),
			},
			TLSInfo: toAPITLSInfo(d.TLS),
		},
		Status: swarm.NodeStatus{State: swarm.NodeState(n.Status.State), Message: n.Status.Message, Addr: shoal.TextOf(n.Status.Addr)},
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
