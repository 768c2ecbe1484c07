package cluster

import (
	"bytes"
	"cmp"
	"net/http"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/moby/moby/api/types/swarm"

	"github.com/shoal-dev/shoal/internal/api/convert"
	"github.com/shoal-dev/shoal/internal/api/server"
	"github.com/shoal-dev/shoal/internal/shoal"
	"github.com/shoal-dev/shoal/internal/store"
)

// Docker's limits for the data, in bytes.
const (
	maxSecretSize = 500 << 10
	maxConfigSize = 1000 << 10
)

// dataObjectName matches the names that secrets and configs may have.
var dataObjectName = regexp.MustCompile(`^[a-zA-Z0-9]+(?:[a-zA-Z0-9-_.]*[a-zA-Z0-9])?$`)

func validateObjectName(name string) error {
	if len(name) > 64 || !dataObjectName.MatchString(name) {
		return shoal.InvalidArgument("invalid name, only 64 [a-zA-Z0-9-_.] characters allowed, and the start and end character must be [a-zA-Z0-9]")
	}
	return nil
}

// dataObjects serves /secrets or /configs, which differ in little but their name.
type dataObjects[ID shoal.SecretID | shoal.ConfigID] struct {
	state   StateSource
	kind    string // "secret" or "config"
	maxSize int    // bytes of data
	all     func(store.View) []*shoal.FileObject[ID]
	toAPI   func(*shoal.FileObject[ID]) any
	// references is a container's list of references to objects of this kind.
	references func(*shoal.ContainerSpec) *[]shoal.FileReference[ID]
}

func (s *dataObjects[ID]) Register(rt *server.Router) {
	path := "/" + s.kind + "s"
	rt.Handle("GET "+path, s.list)
	rt.Handle("POST "+path+"/create", s.create)
	rt.Handle("GET "+path+"/{id}", inspectHandler(s.state, s.find, func(_ store.View, o *shoal.FileObject[ID]) any { return s.toAPI(o) }))
	rt.Handle("POST "+path+"/{id}/update", s.update)
	rt.Handle("DELETE "+path+"/{id}", s.remove)
}

// find looks an object up as users name it.
func (s *dataObjects[ID]) find(v store.View, ref string) (*shoal.FileObject[ID], error) {
	matching := func(match func(*shoal.FileObject[ID]) bool) []*shoal.FileObject[ID] {
		return slices.DeleteFunc(s.all(v), func(o *shoal.FileObject[ID]) bool { return !match(o) })
	}
	return lookup(s.kind, ref,
		func(id ID) *shoal.FileObject[ID] {
			for _, o := range matching(func(o *shoal.FileObject[ID]) bool { return o.ID == id }) {
				return o
			}
			return nil
		},
		func(name string) []*shoal.FileObject[ID] {
			return matching(func(o *shoal.FileObject[ID]) bool { return o.Name == name })
		},
		func(prefix string) []*shoal.FileObject[ID] {
			return matching(func(o *shoal.FileObject[ID]) bool { return strings.HasPrefix(string(o.ID), prefix) })
		})
}

func (s *dataObjects[ID]) list(w http.ResponseWriter, r *http.Request) error {
	db, err := s.state.Store()
	if err != nil {
		return err
	}
	f, err := server.ReadFilters(r, "id", "label", "name", "names")
	if err != nil {
		return err
	}
	found := s.all(db.View())
	slices.SortFunc(found, func(a, b *shoal.FileObject[ID]) int { return cmp.Compare(a.ID, b.ID) })
	out := []any{}
	for _, o := range found {
		if f.Prefix("id", string(o.ID)) && f.LabelsNamed("label", o.Labels) && f.Prefix("name", o.Name) && f.Equal("names", o.Name) {
			out = append(out, s.toAPI(o))
		}
	}
	return server.WriteJSON(w, http.StatusOK, out)
}

func (s *dataObjects[ID]) validateData(data []byte) error {
	if len(data) == 0 || len(data) >= s.maxSize {
		return shoal.InvalidArgument("%s data must be larger than 0 and less than %d bytes", s.kind, s.maxSize)
	}
	return nil
}

func (s *dataObjects[ID]) create(w http.ResponseWriter, r *http.Request) error {
	db, err := s.state.Store()
	if err != nil {
		return err
	}
	var spec swarm.SecretSpec // that of a config has nothing else
	if err := server.ReadJSON(r, &spec); err != nil {
		return err
	}
	if err := validateObjectName(spec.Name); err != nil {
		return err
	}
	if spec.Driver != nil {
		return shoal.InvalidArgument("secret driver %q not found: there are no plugins, and the managers keep all secrets", spec.Driver.Name)
	}
	if t := spec.Templating; t != nil && t.Name != "golang" {
		return shoal.InvalidArgument("unrecognized template type %q", t.Name)
	}
	if err := s.validateData(spec.Data); err != nil {
		return err
	}
	o := &shoal.FileObject[ID]{
		ID: shoal.NewID[ID](), Name: spec.Name, Labels: spec.Labels, Data: spec.Data,
		Driver: convert.FromAPIDriver(spec.Driver), Templating: convert.FromAPIDriver(spec.Templating),
	}
	_, err = db.Commit(r.Context(), store.Changes{Puts: []store.Object{o}})
	if store.IsNameTaken(err) {
		return shoal.AlreadyExists("%s %s already exists", s.kind, spec.Name)
	}
	if err != nil {
		return err
	}
	return server.WriteJSON(w, http.StatusCreated, swarm.SecretCreateResponse{ID: string(o.ID)})
}

func (s *dataObjects[ID]) update(_ http.ResponseWriter, r *http.Request) error {
	db, err := s.state.Store()
	if err != nil {
		return err
	}
	var spec swarm.SecretSpec
	if err := server.ReadJSON(r, &spec); err != nil {
		return err
	}
	version, err := objectVersion(r, s.kind)
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
		if spec.Name != o.Name || changesDriver(spec.Driver, o.Driver) || changesDriver(spec.Templating, o.Templating) {
			return changes, errOnlyLabels()
		}
		next := *o
		next.Labels = spec.Labels
		if len(spec.Data) > 0 && !bytes.Equal(spec.Data, o.Data) {
			if err := s.replaceData(v, &next, spec.Data, &changes); err != nil {
				return changes, err
			}
		}
		changes.Put(&next)
		return changes, nil
	})
}

// changesDriver tells whether an update names another driver than an object has. One that names none leaves it.
func changesDriver(wanted *swarm.Driver, has *shoal.Driver) bool {
	return wanted != nil && !reflect.DeepEqual(convert.FromAPIDriver(wanted), has)
}

func errOnlyLabels() error { return shoal.InvalidArgument("only updates to Labels are allowed") }

// replaceData changes the data of an object, which Docker never allows. Here it is allowed if all services that use the object have
// the label shoal.follow=true: their tasks are replaced as in an update of the service, and a rollback of the service brings the old
// data back.
func (s *dataObjects[ID]) replaceData(v store.View, o *shoal.FileObject[ID], data []byte, changes *store.Changes) error {
	users := s.users(v, o.ID)
	if len(users) == 0 {
		return errOnlyLabels()
	}
	if err := s.validateData(data); err != nil {
		return err
	}
	o.Replace(data)
	for _, service := range users {
		if follow, err := strconv.ParseBool(service.Spec.Labels[shoal.LabelFollow]); err != nil || !follow {
			return errOnlyLabels()
		}
		next := *service
		next.Spec.Task.Container = s.withGeneration(o, next.Spec.Task.Container)
		next.PreviousSpec, next.UpdateStatus = &service.Spec, nil
		next.SpecVersion++
		next.SpecOver = service.Version
		startJobIteration(&next, v)
		changes.Put(&next)
	}
	return nil
}

// withGeneration is the container with references to the present generation of an object's data.
func (s *dataObjects[ID]) withGeneration(o *shoal.FileObject[ID], c *shoal.ContainerSpec) *shoal.ContainerSpec {
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

func (s *dataObjects[ID]) remove(w http.ResponseWriter, r *http.Request) error {
	err := deleteObject(s.state, r, s.find, s.validateUnused)
	if err == nil {
		w.WriteHeader(http.StatusNoContent)
	}
	return err
}

// users is the services that refer to an object, sorted by name.
func (s *dataObjects[ID]) users(v store.View, id ID) []*shoal.Service {
	users := slices.DeleteFunc(v.Services(), func(service *shoal.Service) bool {
		c := service.Spec.Task.Container
		return c == nil || !slices.ContainsFunc(*s.references(c), func(ref shoal.FileReference[ID]) bool { return ref.ID == id })
	})
	slices.SortFunc(users, func(a, b *shoal.Service) int { return strings.Compare(a.Spec.Name, b.Spec.Name) })
	return users
}

// validateUnused refuses to remove an object that services refer to.
func (s *dataObjects[ID]) validateUnused(v store.View, o *shoal.FileObject[ID]) error {
	users := convert.List(s.users(v, o.ID), func(service *shoal.Service) string { return service.Spec.Name })
	if len(users) == 0 {
		return nil
	}
	plural := ""
	if len(users) > 1 {
		plural = "s"
	}
	return shoal.InvalidArgument("%s '%s' is in use by the following service%s: %s", s.kind, o.Name, plural, strings.Join(users, ", "))
}
