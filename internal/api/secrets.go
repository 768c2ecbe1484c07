package api

import (
	"bytes"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/moby/moby/api/types/swarm"

	"github.com/shoal-dev/shoal/internal/shoal"
	"github.com/shoal-dev/shoal/internal/store"
)

const (
	maxSecret = 500 << 10
	maxConfig = 1000 << 10
)

// objectName is what secrets and configs may be called.
var objectName = regexp.MustCompile(`^[a-zA-Z0-9]+(?:[a-zA-Z0-9-_.]*[a-zA-Z0-9])?$`)

func checkObjectName(name string) error {
	if len(name) > 64 || !objectName.MatchString(name) {
		return shoal.InvalidArgument("invalid name, only 64 [a-zA-Z0-9-_.] characters allowed, and the start and end character must be [a-zA-Z0-9]")
	}
	return nil
}

// secrets serves /secrets or /configs, which differ in little but their name.
type secrets struct {
	cluster Cluster
	kind    string // "secret" or "config"
	limit   int    // bytes
	all     func(store.View) []*shoal.Secret
	object  func(*shoal.Secret) store.Object
	show    func(*shoal.Secret) any
	// references is where a container refers to them.
	references func(*shoal.ContainerSpec) *[]shoal.FileReference
}

// newSecrets serves /secrets. Their data never leaves through the API.
func newSecrets(cluster Cluster) *secrets {
	return &secrets{
		cluster: cluster, kind: "secret", limit: maxSecret,
		all:        store.View.Secrets,
		object:     func(s *shoal.Secret) store.Object { return s },
		show:       func(s *shoal.Secret) any { return secretTo(s) },
		references: func(c *shoal.ContainerSpec) *[]shoal.FileReference { return &c.Secrets },
	}
}

// newConfigs serves /configs.
func newConfigs(cluster Cluster) *secrets {
	return &secrets{
		cluster: cluster, kind: "config", limit: maxConfig,
		all: func(v store.View) []*shoal.Secret {
			return each(v.Configs(), func(c *shoal.Config) *shoal.Secret { return (*shoal.Secret)(c) })
		},
		object:     func(s *shoal.Secret) store.Object { return (*shoal.Config)(s) },
		show:       func(s *shoal.Secret) any { return configTo(s) },
		references: func(c *shoal.ContainerSpec) *[]shoal.FileReference { return &c.Configs },
	}
}

func (s *secrets) register(rt *router) {
	path := "/" + s.kind + "s"
	rt.handle("GET "+path, s.list)
	rt.handle("POST "+path+"/create", s.create)
	rt.handle("GET "+path+"/{id}", s.inspect)
	rt.handle("POST "+path+"/{id}/update", s.update)
	rt.handle("DELETE "+path+"/{id}", s.remove)
}

func secretTo(s *shoal.Secret) swarm.Secret {
	return swarm.Secret{ID: s.ID, Meta: metaTo(s.Meta), Spec: swarm.SecretSpec{
		Annotations: swarm.Annotations{Name: s.Name, Labels: orEmpty(s.Labels)}, Driver: driverTo(s.Driver), Templating: driverTo(s.Templating),
	}}
}

func configTo(s *shoal.Secret) swarm.Config {
	return swarm.Config{ID: s.ID, Meta: metaTo(s.Meta), Spec: swarm.ConfigSpec{
		Annotations: swarm.Annotations{Name: s.Name, Labels: orEmpty(s.Labels)}, Data: s.Data, Templating: driverTo(s.Templating),
	}}
}

// find looks one up as users name it.
func (s *secrets) find(v store.View, name string) (*shoal.Secret, error) {
	matching := func(match func(*shoal.Secret) bool) []*shoal.Secret {
		return slices.DeleteFunc(s.all(v), func(o *shoal.Secret) bool { return !match(o) })
	}
	return find(s.kind, name,
		func(id shoal.ID) *shoal.Secret {
			for _, o := range matching(func(o *shoal.Secret) bool { return o.ID == id }) {
				return o
			}
			return nil
		},
		func(name string) []*shoal.Secret {
			return matching(func(o *shoal.Secret) bool { return o.Name == name })
		},
		func(prefix string) []*shoal.Secret {
			return matching(func(o *shoal.Secret) bool { return strings.HasPrefix(o.ID, prefix) })
		})
}

func (s *secrets) list(w http.ResponseWriter, r *http.Request) error {
	db, err := s.cluster.Store()
	if err != nil {
		return err
	}
	f, err := readFilters(r, "id", "label", "name", "names")
	if err != nil {
		return err
	}
	found := s.all(db.View())
	slices.SortFunc(found, func(a, b *shoal.Secret) int { return compareText(a.ID, b.ID) })
	out := []any{}
	for _, o := range found {
		if f.prefix("id", o.ID) && f.labels("label", o.Labels) && f.prefix("name", o.Name) && f.exact("names", o.Name) {
			out = append(out, s.show(o))
		}
	}
	return writeJSON(w, http.StatusOK, out)
}

func (s *secrets) inspect(w http.ResponseWriter, r *http.Request) error {
	db, err := s.cluster.Store()
	if err != nil {
		return err
	}
	o, err := s.find(db.View(), r.PathValue("id"))
	if err != nil {
		return err
	}
	return writeJSON(w, http.StatusOK, s.show(o))
}

func (s *secrets) checkData(data []byte) error {
	if len(data) == 0 || len(data) >= s.limit {
		return shoal.InvalidArgument("%s data must be larger than 0 and less than %d bytes", s.kind, s.limit)
	}
	return nil
}

func (s *secrets) create(w http.ResponseWriter, r *http.Request) error {
	db, err := s.cluster.Store()
	if err != nil {
		return err
	}
	var spec swarm.SecretSpec // that of a config has nothing else
	if err := readJSON(r, &spec); err != nil {
		return err
	}
	if err := checkObjectName(spec.Name); err != nil {
		return err
	}
	if spec.Driver == nil {
		if err := s.checkData(spec.Data); err != nil {
			return err
		}
	}
	o := &shoal.Secret{
		ID: shoal.NewID(), Name: spec.Name, Labels: spec.Labels, Data: spec.Data,
		Driver: driverFrom(spec.Driver), Templating: driverFrom(spec.Templating),
	}
	_, err = db.Commit(r.Context(), store.Changes{Puts: []store.Object{s.object(o)}})
	if store.IsNameTaken(err) {
		return shoal.AlreadyExists("%s %s already exists", s.kind, spec.Name)
	}
	if err != nil {
		return err
	}
	return writeJSON(w, http.StatusCreated, swarm.SecretCreateResponse{ID: o.ID})
}

func (s *secrets) update(_ http.ResponseWriter, r *http.Request) error {
	db, err := s.cluster.Store()
	if err != nil {
		return err
	}
	var spec swarm.SecretSpec
	if err := readJSON(r, &spec); err != nil {
		return err
	}
	version, err := readVersion(r, s.kind)
	if err != nil {
		return err
	}
	return db.Update(r.Context(), func(v store.View) (store.Changes, error) {
		var changes store.Changes
		o, err := s.find(v, r.PathValue("id"))
		if err != nil {
			return changes, err
		}
		if o.Version != version {
			return changes, shoal.ErrOutOfSequence
		}
		if spec.Name != o.Name {
			return changes, errOnlyLabels()
		}
		next := *o
		next.Labels = spec.Labels
		if len(spec.Data) > 0 && !bytes.Equal(spec.Data, o.Data) {
			if err := s.replace(v, &next, spec.Data, &changes); err != nil {
				return changes, err
			}
		}
		changes.Put(s.object(&next))
		return changes, nil
	})
}

func errOnlyLabels() error { return shoal.InvalidArgument("only updates to Labels are allowed") }

// replace changes the data, as Docker never does. It takes that all services that use it have asked to follow: they roll, as in
// an update of their own, and a rollback brings the old data back.
func (s *secrets) replace(v store.View, o *shoal.Secret, data []byte, changes *store.Changes) error {
	users := s.users(v, o.ID)
	if len(users) == 0 {
		return errOnlyLabels()
	}
	if err := s.checkData(data); err != nil {
		return err
	}
	o.Replace(data)
	for _, service := range users {
		if follow, err := strconv.ParseBool(service.Spec.Labels[shoal.LabelFollow]); err != nil || !follow {
			return errOnlyLabels()
		}
		next := *service
		next.Spec.Task.Container = s.referTo(o, next.Spec.Task.Container)
		next.PreviousSpec, next.UpdateStatus = &service.Spec, nil
		next.SpecVersion++
		beginRun(&next, v)
		changes.Put(&next)
	}
	return nil
}

// referTo is a container that refers to the newest generation of the data.
func (s *secrets) referTo(o *shoal.Secret, c *shoal.ContainerSpec) *shoal.ContainerSpec {
	next := *c
	refs := s.references(&next)
	*refs = slices.Clone(*refs)
	for i := range *refs {
		if (*refs)[i].ID == o.ID {
			(*refs)[i].Generation = o.Generation
		}
	}
	return &next
}

func (s *secrets) remove(w http.ResponseWriter, r *http.Request) error {
	db, err := s.cluster.Store()
	if err != nil {
		return err
	}
	err = db.Update(r.Context(), func(v store.View) (store.Changes, error) {
		o, err := s.find(v, r.PathValue("id"))
		if err != nil {
			return store.Changes{}, err
		}
		if err := s.checkUnused(v, o); err != nil {
			return store.Changes{}, err
		}
		return store.Changes{Deletes: []store.Object{s.object(o)}}, nil
	})
	if err == nil {
		w.WriteHeader(http.StatusNoContent)
	}
	return err
}

// users is the services that use a secret or config, by name.
func (s *secrets) users(v store.View, id shoal.ID) []*shoal.Service {
	users := slices.DeleteFunc(v.Services(), func(service *shoal.Service) bool {
		c := service.Spec.Task.Container
		return c == nil || !slices.ContainsFunc(*s.references(c), func(ref shoal.FileReference) bool { return ref.ID == id })
	})
	slices.SortFunc(users, func(a, b *shoal.Service) int { return compareText(a.Spec.Name, b.Spec.Name) })
	return users
}

// checkUnused refuses to remove what services use.
func (s *secrets) checkUnused(v store.View, o *shoal.Secret) error {
	users := each(s.users(v, o.ID), func(service *shoal.Service) string { return service.Spec.Name })
	if len(users) == 0 {
		return nil
	}
	plural := ""
	if len(users) > 1 {
		plural = "s"
	}
	return shoal.InvalidArgument("%s '%s' is in use by the following service%s: %s", s.kind, o.Name, plural, strings.Join(users, ", "))
}
