package cluster

import (
	"net/http"
	"slices"
	"strings"

	"github.com/moby/moby/api/types/swarm"

	"github.com/shoal-dev/shoal/internal/api/server"
	"github.com/shoal-dev/shoal/internal/shoal"
	"github.com/shoal-dev/shoal/internal/store"
)

// services serves /services. It writes Service.Spec, SpecVersion and PreviousSpec, and starts a rollback.
type services struct {
	state StateSource
	// checkPorts refuses published ports that another service has.
	checkPorts func(v store.View, self shoal.ServiceID, spec *shoal.EndpointSpec) error
}

func (s *services) Register(rt *server.Router) {
	rt.Handle("GET /services", s.list)
	rt.Handle("POST /services/create", s.create)
	rt.Handle("GET /services/{id}", s.inspect)
	rt.Handle("POST /services/{id}/update", s.update)
	rt.Handle("DELETE /services/{id}", s.remove)
}

func (s *services) list(w http.ResponseWriter, r *http.Request) error {
	db, err := s.state.Store()
	if err != nil {
		return err
	}
	f, err := server.ReadFilters(r, "id", "name", "label", "mode", "runtime")
	if err != nil {
		return err
	}
	view := db.View()
	found := view.Services()
	slices.SortFunc(found, func(a, b *shoal.Service) int { return strings.Compare(a.Spec.Name, b.Spec.Name) })
	out := []swarm.Service{}
	for _, service := range found {
		if !f.Prefix("id", string(service.ID)) || !f.Prefix("name", service.Spec.Name) || !f.LabelsNamed("label", service.Spec.Labels) ||
			!f.Equal("mode", modeName(service.Spec.Mode)) || !f.Equal("runtime", "container") {
			continue
		}
		item := toAPIService(service)
		if server.BoolParam(r, "status") {
			item.ServiceStatus = toAPIServiceStatus(view, service)
		}
		out = append(out, item)
	}
	return server.WriteJSON(w, http.StatusOK, out)
}

// modeName is the name of a mode in filters.
func modeName(m shoal.ServiceMode) string {
	switch {
	case m.Global != nil:
		return "global"
	case m.ReplicatedJob != nil:
		return "replicated-job"
	case m.GlobalJob != nil:
		return "global-job"
	}
	return "replicated"
}

// toAPIServiceStatus counts tasks as `docker service ls` shows them.
func toAPIServiceStatus(v store.View, s *shoal.Service) *swarm.ServiceStatus {
	out := &swarm.ServiceStatus{DesiredTasks: s.Spec.Replicas()}
	for _, t := range v.TasksOfService(s.ID) {
		if s.Spec.Mode.IsJob() && s.JobStatus != nil && (t.JobIteration == nil || *t.JobIteration != s.JobStatus.Iteration) {
			continue
		}
		switch {
		case t.Status.State == shoal.TaskRunning && t.Wanted():
			out.RunningTasks++
		case t.Status.State == shoal.TaskComplete:
			out.CompletedTasks++
		}
		if s.Spec.Mode.IsGlobal() && t.Wanted() && t.Status.State != shoal.TaskComplete {
			out.DesiredTasks++
		}
	}
	if job := s.Spec.Mode.ReplicatedJob; job != nil {
		out.DesiredTasks = 1
		if job.MaxConcurrent != nil {
			out.DesiredTasks = *job.MaxConcurrent
		}
	}
	return out
}

func (s *services) inspect(w http.ResponseWriter, r *http.Request) error {
	db, err := s.state.Store()
	if err != nil {
		return err
	}
	service, err := findService(db.View(), r.PathValue("id"))
	if err != nil {
		return err
	}
	out := toAPIService(service)
	if server.BoolParam(r, "insertDefaults") {
		insertDefaults(&out.Spec)
	}
	return server.WriteJSON(w, http.StatusOK, out)
}

func (s *services) create(w http.ResponseWriter, r *http.Request) error {
	db, err := s.state.Store()
	if err != nil {
		return err
	}
	var req serviceRequest
	if err := server.ReadJSON(r, &req); err != nil {
		return err
	}
	spec, err := fromAPIServiceSpec(req)
	if err != nil {
		return err
	}
	if spec.Name == "" {
		spec.Name = shoal.InventName(func(name string) bool { return db.View().ServiceByName(name) != nil })
	}
	spec.Task.RegistryAuth = r.Header.Get("X-Registry-Auth")
	service := &shoal.Service{ID: shoal.NewID[shoal.ServiceID]()}
	err = db.Update(r.Context(), func(v store.View) (store.Changes, error) {
		checked, err := s.resolveAndCheck(v, service.ID, spec)
		if err != nil {
			return store.Changes{}, err
		}
		if v.ServiceByName(spec.Name) != nil {
			return store.Changes{}, nameConflict(spec.Name)
		}
		service.Spec = checked
		startJobIteration(service, v)
		return store.Changes{Puts: []store.Object{service}}, nil
	})
	if store.IsNameTaken(err) {
		err = nameConflict(spec.Name)
	}
	if err != nil {
		return err
	}
	return server.WriteJSON(w, http.StatusCreated, swarm.ServiceCreateResponse{ID: string(service.ID)})
}

func nameConflict(name string) error {
	return shoal.AlreadyExists("name conflicts with an existing object: service %s already exists", name)
}

// resolveAndCheck returns the spec with the IDs of the objects that it refers to by name, or why it is refused.
func (s *services) resolveAndCheck(v store.View, self shoal.ServiceID, spec shoal.ServiceSpec) (shoal.ServiceSpec, error) {
	networks, err := resolveNetworks(v, spec.Task.Networks)
	if err != nil {
		return spec, err
	}
	spec.Task.Networks = networks
	if err := validateService(spec); err != nil {
		return spec, err
	}
	if spec.Task.Container, err = resolveReferences(v, spec.Task.Container); err != nil {
		return spec, err
	}
	if err := validateIngressNetwork(v, spec.Endpoint); err != nil {
		return spec, err
	}
	return spec, s.checkPorts(v, self, spec.Endpoint)
}

func (s *services) remove(_ http.ResponseWriter, r *http.Request) error {
	return deleteObject(s.state, r, findService, nil)
}
