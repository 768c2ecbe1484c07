package api

import (
	"net/http"
	"regexp"
	"slices"
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

// secrets serves /secrets. Their data never leaves through the API.
type secrets struct{ cluster Cluster }

func (s *secrets) register(rt *router) {
	rt.handle("GET /secrets", s.list)
	rt.handle("POST /secrets/create", s.create)
	rt.handle("GET /secrets/{id}", s.inspect)
	rt.handle("POST /secrets/{id}/update", s.update)
	rt.handle("DELETE /secrets/{id}", s.remove)
}

func secretTo(s *shoal.Secret) swarm.Secret {
	return swarm.Secret{ID: s.ID, Meta: metaTo(s.Meta), Spec: swarm.SecretSpec{
		Annotations: swarm.Annotations{Name: s.Name, Labels: orEmpty(s.Labels)}, Driver: driverTo(s.Driver), Templating: driverTo(s.Templating),
	}}
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
	found := db.View().Secrets()
	slices.SortFunc(found, func(a, b *shoal.Secret) int { return compareText(a.ID, b.ID) })
	out := []swarm.Secret{}
	for _, secret := range found {
		if f.prefix("id", secret.ID) && f.labels("label", secret.Labels) && f.prefix("name", secret.Name) && f.exact("names", secret.Name) {
			out = append(out, secretTo(secret))
		}
	}
	return writeJSON(w, http.StatusOK, out)
}

func (s *secrets) inspect(w http.ResponseWriter, r *http.Request) error {
	db, err := s.cluster.Store()
	if err != nil {
		return err
	}
	secret, err := findSecret(db.View(), r.PathValue("id"))
	if err != nil {
		return err
	}
	return writeJSON(w, http.StatusOK, secretTo(secret))
}

func (s *secrets) create(w http.ResponseWriter, r *http.Request) error {
	db, err := s.cluster.Store()
	if err != nil {
		return err
	}
	var spec swarm.SecretSpec
	if err := readJSON(r, &spec); err != nil {
		return err
	}
	if err := checkObjectName(spec.Name); err != nil {
		return err
	}
	if spec.Driver == nil && (len(spec.Data) == 0 || len(spec.Data) >= maxSecret) {
		return shoal.InvalidArgument("secret data must be larger than 0 and less than %d bytes", maxSecret)
	}
	secret := &shoal.Secret{
		Meta: shoal.Meta{ID: shoal.NewID()}, Name: spec.Name, Labels: spec.Labels, Data: spec.Data,
		Driver: driverFrom(spec.Driver), Templating: driverFrom(spec.Templating),
	}
	_, err = db.Commit(r.Context(), store.Changes{Puts: []store.Object{secret}})
	if store.IsNameTaken(err) {
		return shoal.AlreadyExists("secret %s already exists", spec.Name)
	}
	if err != nil {
		return err
	}
	return writeJSON(w, http.StatusCreated, swarm.SecretCreateResponse{ID: secret.ID})
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
	version, err := readVersion(r, "secret")
	if err != nil {
		return err
	}
	return db.Update(r.Context(), func(v store.View) (store.Changes, error) {
		secret, err := findSecret(v, r.PathValue("id"))
		if err != nil {
			return store.Changes{}, err
		}
		if secret.Version != version {
			return store.Changes{}, shoal.ErrOutOfSequence
		}
		if spec.Name != secret.Name || (spec.Data != nil && string(spec.Data) != string(secret.Data)) {
			return store.Changes{}, shoal.InvalidArgument("only updates to Labels are allowed")
		}
		next := *secret
		next.Labels = spec.Labels
		return store.Changes{Puts: []store.Object{&next}}, nil
	})
}

func (s *secrets) remove(w http.ResponseWriter, r *http.Request) error {
	db, err := s.cluster.Store()
	if err != nil {
		return err
	}
	err = db.Update(r.Context(), func(v store.View) (store.Changes, error) {
		secret, err := findSecret(v, r.PathValue("id"))
		if err != nil {
			return store.Changes{}, err
		}
		if err := checkUnused(v, "secret", secret.Name, func(c *shoal.ContainerSpec) []shoal.FileReference { return c.Secrets }, secret.ID); err != nil {
			return store.Changes{}, err
		}
		return store.Changes{Deletes: []store.Object{secret}}, nil
	})
	if err == nil {
		w.WriteHeader(http.StatusNoContent)
	}
	return err
}

// checkUnused refuses to remove what services use.
func checkUnused(v store.View, kind, name string, of func(*shoal.ContainerSpec) []shoal.FileReference, id shoal.ID) error {
	var users []string
	for _, service := range v.Services() {
		c := service.Spec.Task.Container
		if c != nil && slices.ContainsFunc(of(c), func(ref shoal.FileReference) bool { return ref.ID == id }) {
			users = append(users, service.Spec.Name)
		}
	}
	if len(users) == 0 {
		return nil
	}
	slices.Sort(users)
	plural := ""
	if len(users) > 1 {
		plural = "s"
	}
	return shoal.InvalidArgument("%s '%s' is in use by the following service%s: %s", kind, name, plural, strings.Join(users, ", "))
}
