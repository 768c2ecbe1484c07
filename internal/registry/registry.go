// Package registry speaks to image registries: which hosts stand for a registry, how they are reached and with which credentials, and what they
// tell of an image or an account. It keeps nothing; images are pulled and pushed by package image with the Resolver from here.
package registry

import (
	"context"
	"crypto/tls"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/containerd/containerd/v2/core/remotes"
	"github.com/containerd/containerd/v2/core/remotes/docker"
	"github.com/containerd/containerd/v2/core/remotes/docker/config"
)

// DefaultCertsDir is where Docker's users keep the certificates of their registries, in a folder for each.
const DefaultCertsDir = "/etc/docker/certs.d"

// answerLimit is how long a registry may take to begin an answer. Bodies may take as long as they come.
const answerLimit = 60 * time.Second

// Auth is the credentials for a registry; the zero Auth is anonymous.
type Auth struct {
	Username, Password string
	// IdentityToken is a refresh token, as after `docker login` with a browser; if it is set, the two above do not count.
	IdentityToken string
	// RegistryToken is sent as it is, and all others are not.
	RegistryToken string
}

// ParseAuth reads credentials in the form of the X-Registry-Auth header; an empty text is no credentials.
func ParseAuth(header string) (Auth, error) {
	var auth Auth
	if header == "" {
		return auth, nil
	}
	text, err := base64.URLEncoding.DecodeString(header)
	if err == nil {
		err = json.Unmarshal(text, &auth)
	}
	if err != nil {
		return Auth{}, fmt.Errorf("read registry credentials: %w", err)
	}
	return auth, nil
}

// Settings is the part of a Client's configuration that may change while the daemon runs.
type Settings struct {
	// Insecure are the registries that may be spoken to without TLS or with a certificate of nobody's: "host", "host:port", addresses and CIDR
	// prefixes. Registries on loopback always are.
	Insecure []string
	// Mirrors are asked for the images of Docker Hub first, in this order: "https://mirror.example.com".
	Mirrors []string
}

// Client speaks to registries. Its methods are safe for concurrent use.
type Client struct {
	certsDir string
	settings atomic.Pointer[Settings]
}

// New returns a client that looks for certificates in certsDir, as Docker lays them out: HOST:PORT/ca.crt, client.cert and client.key.
func New(certsDir string, settings Settings) *Client {
	c := &Client{certsDir: certsDir}
	c.Set(settings)
	return c
}

// Set replaces the settings. What is under way goes on with the old ones.
func (c *Client) Set(settings Settings) { c.settings.Store(&settings) }

// Settings returns the settings. Callers must not change them.
func (c *Client) Settings() Settings { return *c.settings.Load() }

// Resolver returns what containerd pulls and pushes with.
func (c *Client) Resolver(ctx context.Context, auth Auth) remotes.Resolver {
	return docker.NewResolver(docker.ResolverOptions{Hosts: func(host string) ([]docker.RegistryHost, error) { return c.hosts(ctx, host, auth) }})
}

// Hosts lists where a registry is asked, without credentials, for those that bring their own.
func (c *Client) Hosts(host string) ([]docker.RegistryHost, error) {
	return c.hosts(context.Background(), host, Auth{})
}

// hosts lists where a registry is asked: its mirrors, then itself.
func (c *Client) hosts(ctx context.Context, host string, auth Auth) ([]docker.RegistryHost, error) {
	var hosts []docker.RegistryHost
	if host == hubHost {
		for _, mirror := range c.Settings().Mirrors {
			mirrors, err := c.mirrorHosts(ctx, mirror)
			if err != nil {
				return nil, err
			}
			hosts = append(hosts, mirrors...)
		}
	}
	own, err := c.ownHosts(ctx, host, auth, nil)
	return append(hosts, own...), err
}

// mirrorHosts is how a mirror is asked. It gets no credentials: they are for the registry that it stands for.
func (c *Client) mirrorHosts(ctx context.Context, mirror string) ([]docker.RegistryHost, error) {
	u, err := url.Parse(mirror)
	if err != nil {
		return nil, err
	}
	hosts, err := c.ownHosts(ctx, u.Host, Auth{}, nil)
	if err != nil {
		return nil, err
	}
	for i := range hosts {
		hosts[i].Scheme, hosts[i].Path = u.Scheme, strings.TrimSuffix(u.Path, "/")+"/v2"
		hosts[i].Capabilities = docker.HostCapabilityPull | docker.HostCapabilityResolve
	}
	return hosts, nil
}

// ownHosts is how a registry is asked itself. gotToken, if it is not nil, is called with the identity token that the registry hands out.
func (c *Client) ownHosts(ctx context.Context, host string, auth Auth, gotToken docker.OnFetchRefreshToken) ([]docker.RegistryHost, error) {
	options := config.HostOptions{
		HostDir:      config.HostDirFromRoot(c.certsDir),
		Credentials:  func(string) (string, string, error) { return auth.secret() },
		UpdateClient: limitAnswer,
	}
	if gotToken != nil {
		options.AuthorizerOpts = append(options.AuthorizerOpts, docker.WithFetchRefreshToken(gotToken))
	}
	if c.insecure(host) {
		options.DefaultScheme = "http"                             // after TLS has been tried
		options.DefaultTLS = &tls.Config{InsecureSkipVerify: true} // #nosec G402 -- the user says so of this registry
	}
	hosts, err := config.ConfigureHosts(ctx, options)(host)
	if auth.RegistryToken != "" {
		for i := range hosts {
			hosts[i].Authorizer = bearer(auth.RegistryToken)
		}
	}
	return hosts, err
}

func (a Auth) secret() (username, secret string, err error) {
	if a.IdentityToken != "" {
		return "", a.IdentityToken, nil
	}
	return a.Username, a.Password, nil
}

// limitAnswer ends requests to a registry that takes them and never answers.
func limitAnswer(client *http.Client) error {
	if transport, ok := client.Transport.(*http.Transport); ok {
		transport.ResponseHeaderTimeout = answerLimit
	}
	return nil
}

// insecure tells whether the settings name a registry's host.
func (c *Client) insecure(host string) bool {
	entries := c.Settings().Insecure
	if slices.Contains(entries, host) {
		return true
	}
	name := host
	if h, _, err := net.SplitHostPort(host); err == nil {
		name = h
	}
	ip := net.ParseIP(name)
	return ip != nil && slices.ContainsFunc(entries, func(entry string) bool {
		_, subnet, err := net.ParseCIDR(entry)
		return err == nil && subnet.Contains(ip)
	})
}

// bearer is an Authorizer with a token that somebody else has got.
type bearer string

func (b bearer) Authorize(_ context.Context, req *http.Request) error {
	req.Header.Set("Authorization", "Bearer "+string(b))
	return nil
}

// AddResponses implements docker.Authorizer: there is no second try with a token that is refused.
func (b bearer) AddResponses(context.Context, []*http.Response) error {
	return docker.ErrInvalidAuthorization
}
