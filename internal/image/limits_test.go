package image

import (
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/v1/random"

	"github.com/shoal-dev/shoal/internal/registry"
	"github.com/shoal-dev/shoal/internal/registry/registrytest"
)

// most counts how many requests that fit are served at once, at the most.
type most struct {
	now, peak atomic.Int32
}

func (m *most) fault(fits func(*http.Request) bool) func(http.ResponseWriter, *http.Request, http.Handler) {
	return func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		if fits(r) {
			now := m.now.Add(1)
			defer m.now.Add(-1)
			for {
				peak := m.peak.Load()
				if now <= peak || m.peak.CompareAndSwap(peak, now) {
					break
				}
			}
			time.Sleep(50 * time.Millisecond) //nolint:forbidigo // a slow registry
		}
		next.ServeHTTP(w, r)
	}
}

// The settings max-concurrent-downloads and max-concurrent-uploads had no effect.
func TestTransfersAtOnceAreLimited(t *testing.T) {
	server := registrytest.New(t, registrytest.Options{})
	for _, name := range []string{"team/a:1", "team/b:1"} {
		img, err := random.Image(10_000, 6)
		if err != nil {
			t.Fatal(err)
		}
		registrytest.Upload(t, server, name, img)
	}
	for _, limit := range []int{1, 3} {
		s := newStore(t)
		s.SetLimits(Limits{Downloads: limit, Uploads: limit})
		var pulls, pushes most
		server.Break(pulls.fault(func(r *http.Request) bool {
			return r.Method == http.MethodGet && strings.Contains(r.URL.Path, "/blobs/")
		}))
		var both sync.WaitGroup
		for _, name := range []string{"/team/a:1", "/team/b:1"} {
			both.Go(func() {
				if _, err := s.Pull(t.Context(), server.Addr()+name, nil, registry.Auth{}, nil); err != nil {
					t.Error(err)
				}
			})
		}
		both.Wait()
		const configs = 2 // are fetched before their layers
		if peak := int(pulls.peak.Load()); peak > limit+configs || peak < limit {
			t.Errorf("%d downloads at once, where %d may be", peak, limit)
		}
		other := registrytest.New(t, registrytest.Options{})
		other.Break(pushes.fault(func(r *http.Request) bool {
			return r.Method == http.MethodPut && strings.Contains(r.URL.Path, "/blobs/")
		}))
		if err := s.Tag(t.Context(), server.Addr()+"/team/a:1", other.Addr()+"/a:1"); err != nil {
			t.Fatal(err)
		}
		if err := s.Push(t.Context(), other.Addr()+"/a:1", nil, registry.Auth{}, func(Progress) {}); err != nil {
			t.Fatal(err)
		}
		if peak := int(pushes.peak.Load()); peak > limit || peak == 0 {
			t.Errorf("%d uploads at once, where %d may be", peak, limit)
		}
	}
}

// The setting max-download-attempts had no effect: a registry out of order for a moment failed the pull.
func TestALayerIsTriedAgain(t *testing.T) {
	server := registrytest.New(t, registrytest.Options{})
	img, err := random.Image(10_000, 1)
	if err != nil {
		t.Fatal(err)
	}
	registrytest.Upload(t, server, "team/a:1", img)
	layers, err := img.Layers()
	if err != nil {
		t.Fatal(err)
	}
	layer, err := layers[0].Digest()
	if err != nil {
		t.Fatal(err)
	}
	pull := func(attempts, fails int) (asked int32, said string, err error) {
		s := newStore(t)
		s.retryAfter = time.Millisecond
		s.SetLimits(Limits{Attempts: attempts})
		var requests atomic.Int32
		server.Break(func(w http.ResponseWriter, r *http.Request, next http.Handler) {
			if strings.HasSuffix(r.URL.Path, layer.String()) && int(requests.Add(1)) <= fails {
				http.Error(w, "out of order", http.StatusInternalServerError)
				return
			}
			next.ServeHTTP(w, r)
		})
		var lines []string
		_, err = s.Pull(t.Context(), server.Addr()+"/team/a:1", nil, registry.Auth{}, func(p Progress) { lines = append(lines, p.Status) })
		return requests.Load(), strings.Join(lines, "\n"), err
	}
	const always, notice = 1000, "Retrying in 1 second"
	once, said, err := pull(1, always) // containerd asks more than once for itself
	if err == nil || strings.Contains(said, notice) {
		t.Errorf("one attempt that fails: %v\n%s", err, said)
	}
	if _, said, err := pull(2, int(once)); err != nil || !strings.Contains(said, notice) {
		t.Errorf("two attempts of which one fails: %v\n%s", err, said)
	}
	if asked, _, err := pull(3, always); err == nil || asked != 3*once {
		t.Errorf("three attempts that fail: %v, %d requests", err, asked)
	}
}
