package api

import (
	"net/http"
	"slices"

	"github.com/moby/moby/api/types/swarm"

	"github.com/shoal-dev/shoal/internal/shoal"
	"github.com/shoal-dev/shoal/internal/store"
)

// configs serves /configs.
type configs struct{ cluster Cluster }

func (s *configs) register(rt *router) {
	rt.handle("GET /configs", s.list)
	rt.handle("POST /configs/create", s.create)
	rt.handle("GET /configs/{id}", s.inspect)
	rt.handle("POST /configs/{id}/update", s.update)
	rt.handle("DELETE /configs/{id}", s.remove)
}

func configTo(s *shoal.Config) swarm.Config {
	return swarm.Config{ID: s.ID, Meta: metaTo(s.Meta), Spec: swarm.ConfigSpec{
		Annotations: swarm.Annotations{Name: s.Name, Labels: orEmpty(s.Labels)}, Data: s.Data, Templating: driverTo(s.Templating),
	}}
}

func (s *configs) list(w http.ResponseWriter, r *http.Request) error {
	db, err := s.cluster.Store()
	if err != nil {
		return err
	}
	f, err := readFilters(r, "id", "label", "name", "names")
	if err != nil {
		return err
	}
	found := db.View().Configs()
	slices.SortFunc(found, func(a, b *shoal.Config) int { return compareText(a.ID, b.ID) })
	out := []swarm.Config{}
	for _, config := range found {
		if f.prefix("id", config.ID) && f.labels("label", config.Labels) && f.prefix("name", config.Name) && f.exact("names", config.Name) {
			out = append(out, configTo(config))
		}
	}
	return writeJSON(w, http.StatusOK, out)
}

func (s *configs) inspect(w http.ResponseWriter, r *http.Request) error {
	db, err := s.cluster.Store()
	if err != nil {
		return err
	}
	config, err := findConfig(db.View(), r.PathValue("id"))
	if err != nil {
		return err
	}
	return writeJSON(w, http.StatusOK, configTo(config))
}

func (s *configs) create(w http.ResponseWriter, r *http.Request) error {
	db, err := s.cluster.Store()
	if err != nil {
		return err
	}
	var spec swarm.ConfigSpec
	if err := readJSON(r, &spec); err != nil {
		return err
	}
	if err := checkObjectName(spec.Name); err != nil {
		return err
	}
	if len(spec.Data) == 0 || len(spec.Data) >= maxConfig {
		return shoal.InvalidArgument("config data must be larger than 0 and less than %d bytes", maxConfig)
	}
	config := &shoal.Config{
		Meta: shoal.Meta{ID: shoal.NewID()}, Name: spec.Name, Labels: spec.Labels, Data: spec.Data,
		Templating: driverFrom(spec.Templating),
	}
	_, err = db.Commit(r.Context(), store.Changes{Puts: []store.Object{config}})
	if store.IsNameTaken(err) {
		return shoal.AlreadyExists("config %s already exists", spec.Name)
	}
	if err != nil {
		return err
	}
	return writeJSON(w, http.StatusCreated, swarm.ConfigCreateResponse{ID: config.ID})
}

func (s *configs) update(_ http.ResponseWriter, r *http.Request) error {
	db, err := s.cluster.Store()
	if err != nil {
		return err
	}
	var spec swarm.ConfigSpec
	if err := readJSON(r, &spec); err != nil {
		return err
	}
	version, err := readVersion(r, "config")
	if err != nil {
		return err
	}
	return db.Update(r.Context(), func(v store.View) (store.Changes, error) {
		config, err := findConfig(v, r.PathValue("id"))
		if err != nil {
			return store.Changes{}, err
		}
		if config.Version != version {
			return store.Changes{}, shoal.ErrOutOfSequence
		}
		if spec.Name != config.Name || (spec.Data != nil && string(spec.Data) != string(config.Data)) {
			return store.Changes{}, shoal.InvalidArgument("only updates to Labels are allowed")
		}
		next := *config
		next.Labels = spec.Labels
		return store.Changes{Puts: []store.Object{&next}}, nil
	})
}

func (s *configs) remove(w http.ResponseWriter, r *http.Request) error {
	db, err := s.cluster.Store()
	if err != nil {
		return err
	}
	err = db.Update(r.Context(), func(v store.View) (store.Changes, error) {
		config, err := findConfig(v, r.PathValue("id"))
		if err != nil {
			return store.Changes{}, err
		}
		if err := checkUnused(v, "config", config.Name, func(c *shoal.ContainerSpec) []shoal.FileReference { return c.Configs }, config.ID); err != nil {
			return store.Changes{}, err
		}
		return store.Changes{Deletes: []store.Object{config}}, nil
	})
	if err == nil {
		w.WriteHeader(http.StatusNoContent)
	}
	return err
}
