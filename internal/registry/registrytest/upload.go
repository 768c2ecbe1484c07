package registrytest

import (
	"crypto/tls"
	"net/http"
	"testing"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"
)

// Upload puts an image into the registry under a name such as "team/box:1", as another machine would.
func Upload(t testing.TB, s *Server, ref string, image v1.Image) {
	t.Helper()
	if err := remote.Write(s.tag(t, ref), image, s.access()...); err != nil {
		t.Fatal(err)
	}
}

// UploadIndex does the same with an image for several platforms.
func UploadIndex(t testing.TB, s *Server, ref string, index v1.ImageIndex) {
	t.Helper()
	if err := remote.WriteIndex(s.tag(t, ref), index, s.access()...); err != nil {
		t.Fatal(err)
	}
}

func (s *Server) tag(t testing.TB, ref string) name.Tag {
	t.Helper()
	tag, err := name.NewTag(s.Addr() + "/" + ref)
	if err != nil {
		t.Fatal(err)
	}
	return tag
}

func (s *Server) access() []remote.Option {
	transport := &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}} // #nosec G402 -- of this very process
	return []remote.Option{remote.WithTransport(transport), remote.WithAuth(authn.FromConfig(authn.AuthConfig{Username: s.options.Username, Password: s.options.Password}))}
}
