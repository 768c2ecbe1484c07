package registry

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"github.com/distribution/reference"
)

// SearchResult is a repository that a search has found. The names in JSON are those of registries.
type SearchResult struct {
	Name        string `json:"name"`
	Description string `json:"description"`
	Stars       int    `json:"star_count"`
	Official    bool   `json:"is_official"`
}

// Search asks a registry for repositories whose name or description has a word in it: Docker Hub, or the registry that the term begins with.
func (c *Client) Search(ctx context.Context, term string, limit int, auth Auth) ([]SearchResult, error) {
	address, term := searchAddress(term)
	hosts, err := c.ownHosts(ctx, address, auth, nil)
	if err != nil {
		return nil, err
	}
	host := hosts[len(hosts)-1]
	query := url.Values{"q": {term}, "n": {strconv.Itoa(limit)}}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, host.Scheme+"://"+host.Host+"/v1/search?"+query.Encode(), http.NoBody)
	if err != nil {
		return nil, err
	}
	if auth.Username != "" {
		req.SetBasicAuth(auth.Username, auth.Password)
	}
	resp, err := host.Client.Do(req)
	if err != nil {
		return nil, fmt.Errorf("search in registry: %w", err)
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode != http.StatusOK {
		return nil, errors.New("Unexpected status code " + strconv.Itoa(resp.StatusCode))
	}
	var page struct{ Results []SearchResult }
	if err := json.NewDecoder(io.LimitReader(resp.Body, maxAnswer)).Decode(&page); err != nil {
		return nil, fmt.Errorf("read results of search: %w", err)
	}
	return page.Results, nil
}

// searchAddress takes the registry from the beginning of a term, as from that of an image's name.
func searchAddress(term string) (host, rest string) {
	first, after, ok := strings.Cut(term, "/")
	if ok && (strings.ContainsAny(first, ".:") || first == "localhost") {
		return first, after
	}
	if named, err := reference.ParseNormalizedNamed(term); err == nil && reference.Domain(named) == hubHost {
		term = strings.TrimPrefix(term, "library/")
	}
	return hubIndex, term
}
