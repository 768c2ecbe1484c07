package registry

import (
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
	"github.com/distribution/reference"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/random"

	"github.com/shoal-dev/shoal/internal/registry/registrytest"
)

var (
	nobody = Auth{}
	ann    = Auth{Username: "ann", Password: "secret"}
	wrong  = Auth{Username: "ann", Password: "guess"}
	byID   = Auth{IdentityToken: registrytest.IdentityToken}
)

func TestLogin(t *testing.T) {
	for _, c := range []struct {
		name     string
		registry registrytest.Options
		auth     Auth
		want     string // the identity token
		refused  string // the error
	}{
		{name: "no account needed", auth: nobody},
		{name: "password", registry: registrytest.Options{Username: "ann", Password: "secret"}, auth: ann},
		{name: "password over TLS", registry: registrytest.Options{Username: "ann", Password: "secret", TLS: true}, auth: ann},
		{name: "wrong password", registry: registrytest.Options{Username: "ann", Password: "secret"}, auth: wrong, refused: "401 Unauthorized"},
		{name: "no password", registry: registrytest.Options{Username: "ann", Password: "secret"}, auth: nobody, refused: "unauthorized"},
		{name: "password for a token", registry: registrytest.Options{Username: "ann", Password: "secret", Tokens: true}, auth: ann, want: registrytest.IdentityToken},
		{name: "identity token", registry: registrytest.Options{Username: "ann", Password: "secret", Tokens: true}, auth: byID, want: registrytest.IdentityToken},
		{name: "wrong password for a token", registry: registrytest.Options{Username: "ann", Password: "secret", Tokens: true}, auth: wrong, refused: "unauthorized: incorrect username or password"},
	} {
		t.Run(c.name, func(t *testing.T) {
			server := registrytest.New(t, c.registry)
			token, err := New(t.TempDir(), Settings{}).Login(t.Context(), server.Addr(), c.auth)
			if c.refused == "" && (err != nil || token != c.want) {
				t.Errorf("token %q, error %v; want %q", token, err, c.want)
			}
			if c.refused != "" && (!errdefs.IsUnauthorized(err) || !strings.Contains(err.Error(), c.refused)) {
				t.Errorf("error %v, want unauthorized, %q", err, c.refused)
			}
		})
	}
}

func TestHostOfAnAccountsAddress(t *testing.T) {
	for address, want := range map[string]string{
		"": "docker.io", "https://index.docker.io/v1/": "docker.io", "registry.example.com": "registry.example.com",
		"https://registry.example.com:5000/v2/": "registry.example.com:5000", "localhost:5000": "localhost:5000",
	} {
		if got := hostOf(address); got != want {
			t.Errorf("%q: %s, want %s", address, got, want)
		}
	}
}

// A registry's certificate counts where users put it; who is named insecure needs none; all others are to show one that the machine trusts.
func TestWhoIsTrusted(t *testing.T) {
	const host = "registry.example.com:5000"
	certs := t.TempDir()
	server := registrytest.New(t, registrytest.Options{TLS: true})
	if err := errors.Join(os.Mkdir(filepath.Join(certs, host), 0o700), os.WriteFile(filepath.Join(certs, host, "ca.crt"), server.Certificate(), 0o600)); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name              string
		certs             string
		insecure          []string
		own, anybody, tls bool // its own certificate counts, any does, nothing but TLS is spoken
	}{
		{"nobody vouches", t.TempDir(), nil, false, false, true},
		{"certs.d", certs, nil, true, false, true},
		{"insecure by name", t.TempDir(), []string{host}, false, true, false},
		{"another is insecure", t.TempDir(), []string{"registry.example.com", "10.0.0.0/8"}, false, false, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			hosts, err := New(c.certs, Settings{Insecure: c.insecure}).hosts(t.Context(), host, nobody)
			if err != nil || len(hosts) != 1 || hosts[0].Scheme != "https" {
				t.Fatalf("%+v, %v", hosts, err)
			}
			transport, tlsOnly := hosts[0].Client.Transport.(*http.Transport)
			if tlsOnly != c.tls {
				t.Fatalf("only TLS: %v", tlsOnly)
			}
			if !tlsOnly {
				return // it is wrapped in what speaks HTTP when TLS is not understood
			}
			if got := transport.TLSClientConfig.RootCAs != nil; got != c.own {
				t.Errorf("its own certificate counts: %v", got)
			}
			if got := transport.TLSClientConfig.InsecureSkipVerify; got != c.anybody {
				t.Errorf("any certificate counts: %v", got)
			}
		})
	}
}

func TestMirrorsAreAskedFirstAndGetNoPassword(t *testing.T) {
	mirror := registrytest.New(t, registrytest.Options{})
	client := New(t.TempDir(), Settings{Mirrors: []string{"http://" + mirror.Addr()}})
	image, err := random.Image(1024, 1)
	if err != nil {
		t.Fatal(err)
	}
	registrytest.Upload(t, mirror, "library/box:1", image)
	password := ""
	mirror.Break(func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		password += r.Header.Get("Authorization")
		next.ServeHTTP(w, r)
	})
	named, err := reference.ParseNormalizedNamed("box:1")
	if err != nil {
		t.Fatal(err)
	}
	digest, _ := image.Digest()
	if found, err := client.Describe(t.Context(), named, ann); err != nil || found.Descriptor.Digest.String() != digest.String() {
		t.Errorf("%+v, %v", found, err)
	}
	if password != "" {
		t.Errorf("the mirror was given %q", password)
	}
	if hosts, err := client.hosts(t.Context(), "registry.example.com", ann); err != nil || len(hosts) != 1 {
		t.Errorf("another registry has mirrors: %+v, %v", hosts, err)
	}
}

func TestSearch(t *testing.T) {
	server := registrytest.New(t, registrytest.Options{})
	server.Break(func(w http.ResponseWriter, r *http.Request, _ http.Handler) {
		if r.URL.Path != "/v1/search" || r.FormValue("n") != "7" {
			http.NotFound(w, r)
			return
		}
		_, _ = w.Write([]byte(`{"num_results":1,"query":"x","results":[{"name":"team/` + r.FormValue("q") + `","star_count":3,"is_official":true}]}`))
	})
	client := New(t.TempDir(), Settings{})
	found, err := client.Search(t.Context(), server.Addr()+"/box", 7, nobody)
	if err != nil || len(found) != 1 || found[0].Name != "team/box" || found[0].Stars != 3 || !found[0].Official {
		t.Errorf("%+v, %v", found, err)
	}
	if _, err := client.Search(t.Context(), server.Addr()+"/box", 8, nobody); err == nil || err.Error() != "Unexpected status code 404" {
		t.Errorf("a registry without search: %v", err)
	}
	for term, want := range map[string]string{"nginx": "index.docker.io nginx", "library/nginx": "index.docker.io nginx", "team/x": "index.docker.io team/x", "quay.io/team/x": "quay.io team/x", "localhost/x": "localhost x"} {
		if host, rest := searchAddress(term); host+" "+rest != want {
			t.Errorf("%s: %s %s", term, host, rest)
		}
	}
}

func TestDistributionTellsDigestAndPlatforms(t *testing.T) {
	server := registrytest.New(t, registrytest.Options{Username: "ann", Password: "secret", Tokens: true})
	client := New(t.TempDir(), Settings{})
	image, err := random.Image(1024, 1)
	if err != nil {
		t.Fatal(err)
	}
	config, err := image.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	config.OS, config.Architecture = "linux", "arm64"
	if image, err = mutate.ConfigFile(image, config); err != nil {
		t.Fatal(err)
	}
	registrytest.Upload(t, server, "team/box:1", image)
	index := mutate.AppendManifests(empty.Index,
		mutate.IndexAddendum{Add: image, Descriptor: v1.Descriptor{Platform: &v1.Platform{OS: "linux", Architecture: "arm64"}}},
		mutate.IndexAddendum{Add: image, Descriptor: v1.Descriptor{Platform: &v1.Platform{OS: "linux", Architecture: "amd64"}}})
	registrytest.UploadIndex(t, server, "team/box:both", index)
	digest, _ := image.Digest()
	indexDigest, _ := index.Digest()
	for _, c := range []struct {
		name      string
		auth      Auth
		digest    string
		platforms int
		kind      func(error) bool
	}{
		{"team/box:1", ann, digest.String(), 1, nil},
		{"team/box:both", ann, indexDigest.String(), 2, nil},
		{"team/box:1", byID, digest.String(), 1, nil},
		{"team/box:1", Auth{RegistryToken: "a token"}, digest.String(), 1, nil},
		{"team/box:1", Auth{RegistryToken: "another"}, "", 0, errdefs.IsNotFound},
		{"team/box:2", ann, "", 0, errdefs.IsNotFound},
		{"team/box:1", wrong, "", 0, errdefs.IsNotFound},
	} {
		named, err := reference.ParseNormalizedNamed(server.Addr() + "/" + c.name)
		if err != nil {
			t.Fatal(err)
		}
		found, err := client.Describe(t.Context(), named, c.auth)
		if c.kind != nil {
			if !c.kind(err) {
				t.Errorf("%s as %+v: %v", c.name, c.auth, err)
			}
			continue
		}
		if err != nil || found.Descriptor.Digest.String() != c.digest || len(found.Platforms) != c.platforms {
			t.Errorf("%s: %+v, %v", c.name, found, err)
		}
	}
	server.Break(registrytest.Lie("/manifests/"))
	named, _ := reference.ParseNormalizedNamed(server.Addr() + "/team/box:both")
	if _, err := client.Describe(t.Context(), named, ann); err == nil {
		t.Error("a registry that sends other bytes than it says is believed")
	}
}
