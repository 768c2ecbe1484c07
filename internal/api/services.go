package api

import (
	"context"
	"net/http"
	"reflect"
	"slices"

	"github.com/moby/moby/api/types/swarm"

	"github.com/shoal-dev/shoal/internal/shoal"
	"github.com/shoal-dev/shoal/internal/store"
)

// services serves /services. It writes Service.Spec, SpecVersion and PreviousSpec, and starts a rollback.
type services struct {
	cluster Cluster
	// checkPorts refuses published ports that another service has.
	checkPorts func(v store.View, self shoal.ID, spec *shoal.EndpointSpec) error
}

func (s *services) register(rt *router) {
	rt.handle("GET /services", s.list)
	rt.handle("POST /services/create", s.create)
	rt.handle("GET /services/{id}", s.inspect)
	rt.handle("POST /services/{id}/update", s.update)
	rt.handle("DELETE /services/{id}", s.remove)
}

func (s *services) list(w http.ResponseWriter, r *http.Request) error {
	db, err := s.cluster.Store()
	if err != nil {
		return err
	}
	f, err := readFilters(r, "id", "name", "label", "mode", "runtime")
	if err != nil {
		return err
	}
	view := db.View()
	found := view.Services()
	slices.SortFunc(found, func(a, b *shoal.Service) int { return compareText(a.Spec.Name, b.Spec.Name) })
	out := []swarm.Service{}
	for _, service := range found {
		if !f.prefix("id", service.ID) || !f.contains("name", service.Spec.Name) || !f.labels("label", service.Spec.Labels) ||
			!f.exact("mode", modeOf(service.Spec.Mode)) || !f.exact("runtime", "container") {
			continue
		}
		item := serviceTo(service)
		if flag(r, "status") {
			item.ServiceStatus = statusOfService(view, service)
		}
		out = append(out, item)
	}
	return writeJSON(w, http.StatusOK, out)
}

func compareText(a, b string) int {
	switch {
	case a < b:
		return -1
	case a > b:
		return 1
	}
	return 0
}

func modeOf(m shoal.ServiceMode) string {
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

// statusOfService counts tasks as `docker service ls` shows them.
func statusOfService(v store.View, s *shoal.Service) *swarm.ServiceStatus {
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
	db, err := s.cluster.Store()
	if err != nil {
		return err
	}
	service, err := findService(db.View(), r.PathValue("id"))
	if err != nil {
		return err
	}
	out := serviceTo(service)
	if flag(r, "insertDefaults") {
		insertDefaults(&out.Spec)
	}
	return writeJSON(w, http.StatusOK, out)
}

// insertDefaults fills in what the user left to the engine.
func insertDefaults(s *swarm.ServiceSpec) {
	if c := s.TaskTemplate.ContainerSpec; c != nil {
		grace := shoal.DefaultStopGracePeriod
		c.StopGracePeriod = orPointer(c.StopGracePeriod, &grace)
		c.DNSConfig = orPointer(c.DNSConfig, &swarm.DNSConfig{})
	}
	delay, attempts := shoal.DefaultRestartDelay, uint64(0)
	s.TaskTemplate.RestartPolicy = orPointer(s.TaskTemplate.RestartPolicy, &swarm.RestartPolicy{})
	policy := *s.TaskTemplate.RestartPolicy
	if policy.Condition == "" {
		policy.Condition = swarm.RestartPolicyConditionAny
	}
	policy.Delay, policy.MaxAttempts = orPointer(policy.Delay, &delay), orPointer(policy.MaxAttempts, &attempts)
	s.TaskTemplate.RestartPolicy = &policy
	s.TaskTemplate.Placement = orPointer(s.TaskTemplate.Placement, &swarm.Placement{})
	if s.Mode.Replicated != nil || s.Mode.Global != nil {
		pace := swarm.UpdateConfig{
			Parallelism: 1, FailureAction: swarm.UpdateFailureActionPause, Monitor: defaultMonitor, Order: swarm.UpdateOrderStopFirst,
		}
		s.UpdateConfig, s.RollbackConfig = withPace(s.UpdateConfig, pace), withPace(s.RollbackConfig, pace)
	}
	s.EndpointSpec = orPointer(s.EndpointSpec, &swarm.EndpointSpec{})
	if s.EndpointSpec.Mode == "" {
		s.EndpointSpec.Mode = swarm.ResolutionModeVIP
	}
}

func withPace(given *swarm.UpdateConfig, otherwise swarm.UpdateConfig) *swarm.UpdateConfig {
	if given == nil {
		return &otherwise
	}
	out := *given
	if out.Monitor == 0 {
		out.Monitor = otherwise.Monitor
	}
	return &out
}

func orPointer[T any](p, otherwise *T) *T {
	if p == nil {
		return otherwise
	}
	return p
}

func (s *services) create(w http.ResponseWriter, r *http.Request) error {
	db, err := s.cluster.Store()
	if err != nil {
		return err
	}
	var req serviceRequest
	if err := readJSON(r, &req); err != nil {
		return err
	}
	spec, err := serviceSpecFrom(req)
	if err != nil {
		return err
	}
	if spec.Name == "" {
		spec.Name = inventName(func(name string) bool { return db.View().ServiceByName(name) != nil })
	}
	spec.Task.RegistryAuth = r.Header.Get("X-Registry-Auth")
	service := &shoal.Service{ID: shoal.NewID()}
	err = db.Update(r.Context(), func(v store.View) (store.Changes, error) {
		checked, err := s.checked(v, service.ID, spec)
		if err != nil {
			return store.Changes{}, err
		}
		if v.ServiceByName(spec.Name) != nil {
			return store.Changes{}, nameConflict(spec.Name)
		}
		service.Spec = checked
		beginRun(service, v)
		return store.Changes{Puts: []store.Object{service}}, nil
	})
	if store.IsNameTaken(err) {
		err = nameConflict(spec.Name)
	}
	if err != nil {
		return err
	}
	return writeJSON(w, http.StatusCreated, swarm.ServiceCreateResponse{ID: service.ID})
}

func nameConflict(name string) error {
	return shoal.AlreadyExists("name conflicts with an existing object: service %s already exists", name)
}

// checked returns the spec with names of networks resolved, or why it is refused.
func (s *services) checked(v store.View, self shoal.ID, spec shoal.ServiceSpec) (shoal.ServiceSpec, error) {
	networks, err := resolveNetworks(v, spec.Task.Networks)
	if err != nil {
		return spec, err
	}
	spec.Task.Networks = networks
	if err := checkService(spec); err != nil {
		return spec, err
	}
	if spec.Task.Container, err = resolveReferences(v, spec.Task.Container); err != nil {
		return spec, err
	}
	if err := checkMesh(v, spec.Endpoint); err != nil {
		return spec, err
	}
	return spec, s.checkPorts(v, self, spec.Endpoint)
}

func (s *services) update(w http.ResponseWriter, r *http.Request) error {
	db, err := s.cluster.Store()
	if err != nil {
		return err
	}
	var req serviceRequest
	if err := readJSON(r, &req); err != nil {
		return err
	}
	version, err := readVersion(r, "service")
	if err != nil {
		return err
	}
	rollback := r.FormValue("rollback")
	if rollback != "" && rollback != "previous" {
		return badRequest("unrecognized rollback option %s", rollback)
	}
	var spec shoal.ServiceSpec
	if rollback == "" {
		if spec, err = serviceSpecFrom(req); err != nil {
			return err
		}
		spec.Task.RegistryAuth = r.Header.Get("X-Registry-Auth")
	}
	err = s.commitUpdate(r.Context(), db, serviceUpdate{
		name: r.PathValue("id"), version: version, spec: spec, rollback: rollback != "", authFrom: r.FormValue("registryAuthFrom"),
	})
	if err != nil {
		return err
	}
	return writeJSON(w, http.StatusOK, swarm.ServiceUpdateResponse{})
}

// serviceUpdate is one request to change a service.
type serviceUpdate struct {
	name     string
	version  uint64
	spec     shoal.ServiceSpec
	rollback bool
	authFrom string // "spec" or "previous-spec"
}

func (s *services) commitUpdate(ctx context.Context, db *store.Store, u serviceUpdate) error {
	return db.Update(ctx, func(v store.View) (store.Changes, error) {
		service, err := findService(v, u.name)
		if err != nil {
			return store.Changes{}, err
		}
		if service.Version != u.version {
			return store.Changes{}, shoal.ErrOutOfSequence
		}
		next := *service
		if u.rollback {
			err = rollBack(&next, v)
		} else {
			err = s.change(&next, v, u)
		}
		return store.Changes{Puts: []store.Object{&next}}, err
	})
}

func (s *services) change(next *shoal.Service, v store.View, u serviceUpdate) error {
	spec := u.spec
	if spec.Name != next.Spec.Name {
		return fail(http.StatusNotImplemented, "rpc error: code = Unimplemented desc = renaming services is not supported")
	}
	if modeOf(spec.Mode) != modeOf(next.Spec.Mode) {
		return fail(http.StatusNotImplemented, "rpc error: code = Unimplemented desc = service mode change is not allowed")
	}
	if spec.Task.RegistryAuth == "" {
		spec.Task.RegistryAuth = next.Spec.Task.RegistryAuth
		if u.authFrom == string(swarm.RegistryAuthFromPreviousSpec) && next.PreviousSpec != nil {
			spec.Task.RegistryAuth = next.PreviousSpec.Task.RegistryAuth
		}
	}
	spec, err := s.checked(v, next.ID, spec)
	if err != nil {
		return err
	}
	if !reflect.DeepEqual(spec, next.Spec) {
		next.SpecVersion++
	}
	previous := next.Spec
	next.PreviousSpec, next.Spec, next.UpdateStatus = &previous, spec, nil
	beginRun(next, v)
	return nil
}

// beginRun numbers the run of a job that a new spec begins. The orchestrator would do it too, but clients read the number as
// soon as the service is there.
func beginRun(s *shoal.Service, v store.View) {
	if s.Spec.Mode.IsJob() && (s.JobStatus == nil || s.JobStatus.Iteration != s.SpecVersion) {
		s.JobStatus = &shoal.JobStatus{Iteration: s.SpecVersion, LastExecution: v.Now().UTC()}
	}
}

func rollBack(next *shoal.Service, v store.View) error {
	if next.PreviousSpec == nil {
		return shoal.FailedPrecondition("service %s does not have a previous spec", next.ID)
	}
	now := v.Now().UTC()
	current := next.Spec
	next.Spec, next.PreviousSpec = *next.PreviousSpec, &current
	next.SpecVersion++
	next.UpdateStatus = &shoal.UpdateStatus{State: shoal.UpdateRollbackStarted, StartedAt: &now, Message: "manually requested rollback"}
	return nil
}

func (s *services) remove(_ http.ResponseWriter, r *http.Request) error {
	db, err := s.cluster.Store()
	if err != nil {
		return err
	}
	return db.Update(r.Context(), func(v store.View) (store.Changes, error) {
		service, err := findService(v, r.PathValue("id"))
		if err != nil {
			return store.Changes{}, err
		}
		return store.Changes{Deletes: []store.Object{service}}, nil
	})
}
