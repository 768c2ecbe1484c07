package registry

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"

	"github.com/containerd/containerd/v2/core/remotes/docker"
	remoteerrors "github.com/containerd/containerd/v2/core/remotes/errors"
	"github.com/containerd/errdefs"
)

const (
	hubHost  = "docker.io"       // in images' names
	hubIndex = "index.docker.io" // in accounts' and searches' addresses
)

// Login tries credentials at a registry, whose address may be a host or a URL; empty is Docker Hub. It returns the identity token that the registry
// gives for a password, if it does. Credentials that the registry refuses are an unauthenticated error.
func (c *Client) Login(ctx context.Context, address string, auth Auth) (identityToken string, err error) {
	gotToken := func(_ context.Context, token string, _ *http.Request) { identityToken = token }
	hosts, err := c.ownHosts(ctx, hostOf(address), auth, gotToken)
	if err != nil {
		return "", err
	}
	host := hosts[len(hosts)-1]
	ping := host.Scheme + "://" + host.Host + host.Path + "/"
	resp, err := get(ctx, host, ping)
	if err == nil && resp.StatusCode == http.StatusUnauthorized {
		if err = host.Authorizer.AddResponses(ctx, []*http.Response{resp}); err == nil {
			resp, err = get(ctx, host, ping)
		}
	}
	if err != nil {
		return "", loginError(ping, err)
	}
	if resp.StatusCode != http.StatusOK {
		err := fmt.Sprintf("login attempt to %s failed with status: %s", ping, resp.Status)
		if resp.StatusCode == http.StatusUnauthorized || resp.StatusCode == http.StatusForbidden {
			return "", errdefs.ErrUnauthenticated.WithMessage(err)
		}
		return "", errors.New(err)
	}
	return identityToken, nil
}

// loginError puts a failed login into Docker's words.
func loginError(address string, err error) error {
	var status remoteerrors.ErrUnexpectedStatus
	refused := errors.As(err, &status) && (status.StatusCode == http.StatusUnauthorized || status.StatusCode == http.StatusForbidden)
	if refused || errors.Is(err, docker.ErrInvalidAuthorization) {
		return errdefs.ErrUnauthenticated.WithMessage(fmt.Sprintf("Get %q: unauthorized: incorrect username or password", address))
	}
	return fmt.Errorf("log in to registry: %w", err)
}

// get asks a registry, with the authorization that its challenge has led to. The body is read and closed.
func get(ctx context.Context, host docker.RegistryHost, url string) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
	if err != nil {
		return nil, err
	}
	if err := host.Authorizer.Authorize(ctx, req); err != nil {
		return nil, err
	}
	resp, err := host.Client.Do(req)
	if err != nil {
		return nil, err
	}
	defer func() { _ = resp.Body.Close() }()
	_, err = io.Copy(io.Discard, io.LimitReader(resp.Body, maxAnswer))
	return resp, err
}

// hostOf is the registry that the address of an account names.
func hostOf(address string) string {
	host := address
	if _, after, ok := strings.Cut(address, "://"); ok {
		host = after
	}
	host, _, _ = strings.Cut(host, "/")
	if host = cmp.Or(host, hubHost); host == hubIndex {
		return hubHost
	}
	return host
}
