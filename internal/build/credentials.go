package build

import (
	"context"
	"fmt"
	"net"

	"github.com/moby/buildkit/session"
	"github.com/moby/buildkit/session/auth"
	"google.golang.org/grpc"

	"github.com/shoal-dev/shoal/internal/fault"
	"github.com/shoal-dev/shoal/internal/registry"
)

// credentials offers BuildKit the credentials that came with a request, as buildx offers its user's on a session.
type credentials struct {
	auth.UnimplementedAuthServer
	byHost map[string]registry.Auth
}

// Register implements session.Attachable.
func (c *credentials) Register(s *grpc.Server) { auth.RegisterAuthServer(s, c) }

// Credentials implements auth.AuthServer. A registry without an account is asked as nobody.
func (c *credentials) Credentials(_ context.Context, r *auth.CredentialsRequest) (*auth.CredentialsResponse, error) {
	host := r.Host
	if host == "registry-1.docker.io" {
		host = "https://index.docker.io/v1/" // what clients call Docker Hub
	}
	a := c.byHost[host]
	if a.IdentityToken != "" {
		return &auth.CredentialsResponse{Secret: a.IdentityToken}, nil
	}
	return &auth.CredentialsResponse{Username: a.Username, Secret: a.Password}, nil
}

// withCredentials opens a session in memory for a request that came with credentials and has no session. The caller closes it.
func (b *Builder) withCredentials(ctx context.Context, r *Request) (end func(), err error) {
	if r.Session != "" || len(r.Auth) == 0 {
		return func() {}, nil
	}
	s, err := session.NewSession(ctx, "")
	if err != nil {
		return nil, fmt.Errorf("open session for credentials: %w", err)
	}
	s.Allow(&credentials{byHost: r.Auth})
	dial := func(ctx context.Context, _ string, header map[string][]string) (net.Conn, error) {
		ours, theirs := net.Pipe()
		go fault.Do(b.Log, "session of a build", func() {
			if err := b.ServeSession(ctx, theirs, header); err != nil {
				b.Log.Warn("credentials of a build are not available to it; images that need them are not found", "err", err)
			}
		})
		return ours, nil
	}
	go fault.Do(b.Log, "credentials of a build", func() { _ = s.Run(ctx, dial) }) // ends with the session
	r.Session = s.ID()
	return func() { _ = s.Close() }, nil
}
