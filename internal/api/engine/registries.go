package engine

import (
	"encoding/base64"
	"net/http"
	"strconv"
	"strings"

	"github.com/distribution/reference"
	apiregistry "github.com/moby/moby/api/types/registry"

	"github.com/shoal-dev/shoal/internal/api/server"
	"github.com/shoal-dev/shoal/internal/registry"
)

// registries serves what clients ask registries by way of the engine.
type registries struct{ client *registry.Client }

func (a *registries) Register(rt *server.Router) {
	rt.Handle("POST /auth", a.login)
	rt.Handle("GET /distribution/{rest...}", a.distribution)
	rt.Handle("GET /images/search", a.search)
}

func (a *registries) login(w http.ResponseWriter, r *http.Request) error {
	var config apiregistry.AuthConfig
	if err := server.ReadJSON(r, &config); err != nil {
		return err
	}
	if err := readDeprecatedAuth(&config); err != nil {
		return err
	}
	token, err := a.client.Login(r.Context(), config.ServerAddress, registry.Auth{
		Username: config.Username, Password: config.Password, IdentityToken: config.IdentityToken, RegistryToken: config.RegistryToken,
	})
	if err != nil {
		return err
	}
	return server.WriteJSON(w, http.StatusOK, apiregistry.AuthResponse{IdentityToken: token, Status: "Login Succeeded"})
}

// readDeprecatedAuth reads the name and the password of an account from the field in which they were together.
func readDeprecatedAuth(config *apiregistry.AuthConfig) error {
	if config.Auth == "" || config.Username != "" {
		return nil
	}
	text, err := base64.StdEncoding.DecodeString(config.Auth)
	if err != nil {
		return server.BadRequest("invalid auth: %v", err)
	}
	config.Username, config.Password, _ = strings.Cut(string(text), ":")
	return nil
}

// distribution tells what a name refers to in its registry. Clients write the digest into the services that they create.
func (a *registries) distribution(w http.ResponseWriter, r *http.Request) error {
	name, ok := strings.CutSuffix(r.PathValue("rest"), "/json")
	if !ok {
		return server.Errorf(http.StatusNotFound, "page not found")
	}
	ref, err := reference.ParseAnyReference(name)
	if err != nil {
		return server.BadRequest("%s", err)
	}
	named, ok := ref.(reference.Named)
	if !ok {
		return server.BadRequest("unknown image reference format: %s", name)
	}
	found, err := a.client.Describe(r.Context(), named, fromAPIRegistryAuth(r))
	if err != nil {
		return err
	}
	return server.WriteJSON(w, http.StatusOK, apiregistry.DistributionInspect{Descriptor: found.Descriptor, Platforms: found.Platforms})
}

const (
	defaultSearchResults = 25
	maxSearchResults     = 100
)

func (a *registries) search(w http.ResponseWriter, r *http.Request) error {
	limit := defaultSearchResults
	if text := r.FormValue("limit"); text != "" {
		var err error
		if limit, err = strconv.Atoi(text); err != nil {
			return server.BadRequest("%s", err)
		}
	}
	if limit < 1 || limit > maxSearchResults {
		return server.BadRequest("limit %d is outside the range of [1, %d]", limit, maxSearchResults)
	}
	keep, err := readSearchFilters(r)
	if err != nil {
		return err
	}
	found, err := a.client.Search(r.Context(), r.FormValue("term"), limit, fromAPIRegistryAuth(r))
	if err != nil {
		return err
	}
	kept := []apiregistry.SearchResult{}
	for _, result := range found {
		if keep(result) {
			kept = append(kept, apiregistry.SearchResult{Name: result.Name, Description: result.Description, StarCount: result.Stars, IsOfficial: result.Official})
		}
	}
	return server.WriteJSON(w, http.StatusOK, kept)
}

// readSearchFilters returns what the request's filters keep: the registry knows none.
func readSearchFilters(r *http.Request) (func(registry.SearchResult) bool, error) {
	filters, err := server.ReadFilters(r, "is-automated", "is-official", "stars")
	if err != nil {
		return nil, err
	}
	stars := 0
	for _, value := range filters["stars"] {
		count, err := strconv.Atoi(value)
		if err != nil {
			return nil, server.BadRequest("invalid filter 'stars=%s'", value)
		}
		stars = max(stars, count)
	}
	return func(result registry.SearchResult) bool {
		return result.Stars >= stars && filters.True("is-official", result.Official) && filters.True("is-automated", false) // as registries say of all
	}, nil
}
