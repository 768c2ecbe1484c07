package cluster

import (
	"context"
	"net/http"
	"reflect"

	"github.com/moby/moby/api/types/swarm"

	"github.com/shoal-dev/shoal/internal/api/server"
	"github.com/shoal-dev/shoal/internal/shoal"
	"github.com/shoal-dev/shoal/internal/store"
)

func (s *services) update(w http.ResponseWriter, r *http.Request) error {
	db, err := s.state.Store()
	if err != nil {
		return err
	}
	var req serviceRequest
	if err := server.ReadJSON(r, &req); err != nil {
		return err
	}
	version, err := objectVersion(r, "service")
	if err != nil {
		return err
	}
	option := r.FormValue("rollback")
	if option != "" && option != "none" && option != "previous" {
		return server.BadRequest("unrecognized rollback option %s", option)
	}
	authFrom := r.FormValue("registryAuthFrom")
	switch swarm.RegistryAuthSource(authFrom) {
	case "", swarm.RegistryAuthFromSpec, swarm.RegistryAuthFromPreviousSpec:
	default:
		return server.BadRequest("unsupported registryAuthFrom value")
	}
	rollback := option == "previous"
	var spec shoal.ServiceSpec
	if !rollback {
		if spec, err = fromAPIServiceSpec(req); err != nil {
			return err
		}
		spec.Task.RegistryAuth = r.Header.Get("X-Registry-Auth")
	}
	err = s.commitUpdate(r.Context(), db, serviceUpdate{
		name: r.PathValue("id"), version: version, spec: spec, rollback: rollback, authFrom: authFrom,
	})
	if err != nil {
		return err
	}
	return server.WriteJSON(w, http.StatusOK, swarm.ServiceUpdateResponse{})
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
		// The state of an update changes often, and with it the service's version. Only another change of the spec since the version
		// that the client has seen makes this update one that would overwrite what the user does not know.
		if u.version > service.Version || u.version <= service.SpecOver {
			return store.Changes{}, shoal.ErrOutOfSequence
		}
		next := *service
		next.SpecOver = service.Version
		if u.rollback {
			err = startRollback(&next, v)
		} else {
			err = s.applySpec(&next, v, u)
		}
		return store.Changes{Puts: []store.Object{&next}}, err
	})
}

func (s *services) applySpec(next *shoal.Service, v store.View, u serviceUpdate) error {
	spec := u.spec
	if spec.Name != next.Spec.Name {
		return server.Errorf(http.StatusNotImplemented, "rpc error: code = Unimplemented desc = renaming services is not supported")
	}
	if modeName(spec.Mode) != modeName(next.Spec.Mode) {
		return server.Errorf(http.StatusNotImplemented, "rpc error: code = Unimplemented desc = service mode change is not allowed")
	}
	if spec.Task.RegistryAuth == "" {
		spec.Task.RegistryAuth = next.Spec.Task.RegistryAuth
		if u.authFrom == string(swarm.RegistryAuthFromPreviousSpec) && next.PreviousSpec != nil {
			spec.Task.RegistryAuth = next.PreviousSpec.Task.RegistryAuth
		}
	}
	spec, err := s.resolveAndCheck(v, next.ID, spec)
	if err != nil {
		return err
	}
	if !reflect.DeepEqual(spec, next.Spec) {
		next.SpecVersion++
	}
	previous := next.Spec
	next.PreviousSpec, next.Spec, next.UpdateStatus = &previous, spec, nil
	startJobIteration(next, v)
	return nil
}

// startJobIteration numbers the run of a job that a new spec begins. The orchestrator would do so too, but clients read the number as
// soon as the service exists.
func startJobIteration(s *shoal.Service, v store.View) {
	if s.Spec.Mode.IsJob() && (s.JobStatus == nil || s.JobStatus.Iteration != s.SpecVersion) {
		s.JobStatus = &shoal.JobStatus{Iteration: s.SpecVersion, LastExecution: v.Now().UTC()}
	}
}

func startRollback(next *shoal.Service, v store.View) error {
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
