package cluster

import (
	"net/http"

	"github.com/shoal-dev/shoal/internal/api/server"
	"github.com/shoal-dev/shoal/internal/store"
)

// inspectHandler serves the object that a request's path names. find looks it up as users name it.
func inspectHandler[T, A any](state StateSource, find func(store.View, string) (T, error), toAPI func(store.View, T) A) server.Handler {
	return func(w http.ResponseWriter, r *http.Request) error {
		db, err := state.Store()
		if err != nil {
			return err
		}
		view := db.View()
		object, err := find(view, r.PathValue("id"))
		if err != nil {
			return err
		}
		return server.WriteJSON(w, http.StatusOK, toAPI(view, object))
	}
}

// deleteObject deletes the object that a request's path names, unless validate refuses that; nil refuses nothing.
func deleteObject[T store.Object](state StateSource, r *http.Request, find func(store.View, string) (T, error), validate func(store.View, T) error) error {
	db, err := state.Store()
	if err != nil {
		return err
	}
	return db.Update(r.Context(), func(v store.View) (store.Changes, error) {
		object, err := find(v, r.PathValue("id"))
		if err == nil && validate != nil {
			err = validate(v, object)
		}
		if err != nil {
			return store.Changes{}, err
		}
		return store.Changes{Deletes: []store.Object{object}}, nil
	})
}
