package engine

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	apibuild "github.com/moby/moby/api/types/build"
	"github.com/moby/moby/api/types/jsonstream"

	"github.com/shoal-dev/shoal/internal/api/server"
	"github.com/shoal-dev/shoal/internal/api/version"
	"github.com/shoal-dev/shoal/internal/build"
	"github.com/shoal-dev/shoal/internal/events"
)

// builds serves what concerns the building of images, and its cache.
type builds struct {
	builder *build.Builder
	events  *events.Bus
	// experimental tells whether features are on that are experimental in Docker.
	experimental func() bool
}

func (b *builds) Register(rt *server.Router) {
	rt.Handle("POST /build", b.build)
	rt.Handle("POST /build/cancel", b.cancel)
	rt.Handle("POST /build/prune", b.prune)
	rt.Handle("POST /session", b.session)
	rt.Handle("POST /grpc", b.grpc)
}

// build builds an image. Clients that speak of BuildKit (version=2) get its own news; all others the lines of the classic builder.
func (b *builds) build(w http.ResponseWriter, r *http.Request) error {
	request, err := fromAPIBuild(r, b.experimental())
	if err != nil {
		return err
	}
	_ = http.NewResponseController(w).EnableFullDuplex() // HTTP/2 is
	w.Header().Set("Content-Type", "application/json")
	out := &buildStream{enc: json.NewEncoder(server.NewFlushWriter(w)), quiet: server.BoolParam(r, "q"), buildkit: r.FormValue("version") == string(apibuild.BuilderBuildKit)}
	id, err := b.builder.Solve(r.Context(), request, out.progress)
	if err != nil {
		_, _ = io.Copy(io.Discard, r.Body) // what is left of the context: net/http panics when a handler that answers while it reads leaves some
		return out.fail(err)
	}
	return out.built(id, r.Form["t"])
}

func (b *builds) cancel(w http.ResponseWriter, r *http.Request) error {
	id := r.FormValue("id")
	if id == "" {
		return server.BadRequest("build ID not provided")
	}
	b.builder.Cancel(id)
	w.WriteHeader(http.StatusOK)
	return nil
}

// upgrade takes over a connection that is to speak HTTP/2 from now on.
func upgrade(w http.ResponseWriter, r *http.Request) (*server.Conn, error) {
	switch proto := r.Header.Get("Upgrade"); proto {
	case "h2c":
	case "":
		return nil, server.BadRequest("no upgrade proto in request")
	default:
		return nil, server.BadRequest("protocol %s not supported", proto)
	}
	conn, err := server.Hijack(w)
	if err != nil {
		return nil, err
	}
	if _, err := io.WriteString(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n"); err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	return conn, nil
}

// session is a connection on which a client serves its files, secrets and credentials.
func (b *builds) session(w http.ResponseWriter, r *http.Request) error {
	conn, err := upgrade(w, r)
	if err != nil {
		return err
	}
	if err := b.builder.ServeSession(r.Context(), conn, r.Header); err != nil {
		return errors.Join(err, conn.Close())
	}
	return nil
}

// grpc is a connection on which a client speaks to BuildKit itself.
func (b *builds) grpc(w http.ResponseWriter, r *http.Request) error {
	conn, err := upgrade(w, r)
	if err != nil {
		return err
	}
	if err := b.builder.ServeGRPC(r.Context(), conn); err != nil {
		return errors.Join(err, conn.Close())
	}
	return nil
}

// pruneFields are the filters that are fields of the cache's records.
var pruneFields = []string{"id", "parent", "type", "description", "inuse", "shared", "private"} //nolint:gochecknoglobals // a constant list

func (b *builds) prune(w http.ResponseWriter, r *http.Request) error {
	p, err := fromAPIPrune(r)
	if err != nil {
		return err
	}
	removed, err := b.builder.Prune(r.Context(), p)
	if err != nil {
		return fmt.Errorf("failed to prune build cache: %w", err)
	}
	report := apibuild.CachePruneReport{CachesDeleted: []string{}}
	for _, record := range removed {
		report.CachesDeleted = append(report.CachesDeleted, record.ID)
		report.SpaceReclaimed += uint64(max(record.Size, 0)) //nolint:gosec // not negative
	}
	b.events.Publish(events.Event{Type: "builder", Action: "prune", Attributes: map[string]string{"reclaimed": strconv.FormatUint(report.SpaceReclaimed, 10)}})
	return server.WriteJSON(w, http.StatusOK, report)
}

func fromAPIPrune(r *http.Request) (build.Prune, error) {
	p := build.Prune{All: server.BoolParam(r, "all")}
	filters, err := server.ReadFilters(r, append([]string{"until", "unused-for", "label", "label!"}, pruneFields...)...)
	if err != nil {
		return p, err
	}
	p.None = filters.Has("label") // the cache has no labels
	if filters.Has("until") && filters.Has("unused-for") {
		return p, server.BadRequest(`conflicting filters: "until" and "unused-for"`)
	}
	for _, name := range append([]string{"until", "unused-for"}, pruneFields...) {
		if len(filters[name]) > 1 {
			return p, server.BadRequest("filters expect only one value")
		}
	}
	for _, name := range []string{"until", "unused-for"} {
		if filters.Has(name) {
			since, err := server.ParseTimeOrAge(filters[name][0], time.Now())
			if err != nil {
				return p, server.BadRequest("%q filter expects a duration (e.g., '24h') or a timestamp", name)
			}
			p.KeepFor = time.Since(since)
		}
	}
	for _, name := range pruneFields {
		switch {
		case filters.Has(name) && name == "id":
			p.Filter = append(p.Filter, name+"~="+filters[name][0])
		case filters.Has(name) && filters[name][0] != "":
			p.Filter = append(p.Filter, name+"=="+filters[name][0])
		case filters.Has(name):
			p.Filter = append(p.Filter, name)
		}
	}
	if len(p.Filter) > 0 {
		p.Filter = []string{strings.Join(p.Filter, ",")}
	}
	reserved := "reserved-space"
	if version.Before(r.Context(), "1.48") || r.FormValue(reserved) == "" {
		reserved = "keep-storage"
	}
	for name, into := range map[string]*int64{reserved: &p.Reserved, "max-used-space": &p.MaxUsed, "min-free-space": &p.MinFree} {
		text := r.FormValue(name)
		if text == "" {
			continue
		}
		if *into, err = strconv.ParseInt(text, 10, 64); err != nil {
			return p, server.BadRequest("%s is in bytes and expects an integer, got %v", name, text)
		}
	}
	return p, nil
}

// buildStream is the answer to a client that builds.
type buildStream struct {
	enc      *json.Encoder
	buildkit bool // it reads BuildKit's own news
	quiet    bool // it wants the ID only
	started  bool
}

func (s *buildStream) send(v any) error {
	s.started = true
	return s.enc.Encode(v)
}

// streamLine is a part of the answer that clients print as it is.
type streamLine struct {
	Stream string `json:"stream"`
}

// auxLine is a part of the answer that programs read.
type auxLine struct {
	ID  string `json:"id,omitempty"`
	Aux any    `json:"aux"`
}

func (s *buildStream) progress(p build.Progress) error {
	switch {
	case s.buildkit:
		return s.send(auxLine{"moby.buildkit.trace", p.Trace})
	case p.Text != "" && !s.quiet:
		return s.send(streamLine{p.Text})
	}
	return nil
}

// fail ends the answer with an error, or is the error if there is no answer yet.
func (s *buildStream) fail(err error) error {
	detail := &jsonstream.Error{Message: err.Error()}
	var step *build.StepError
	if !s.buildkit && errors.As(err, &step) {
		detail = &jsonstream.Error{Code: step.Code, Message: fmt.Sprintf("The command '%s' returned a non-zero code: %d", step.Command, step.Code)}
	}
	if !s.started && step == nil {
		return err
	}
	_ = s.send(map[string]any{"errorDetail": detail, "error": detail.Message}) // a client that is gone misses nothing
	return nil
}

// built ends the answer with the image that there is now; an empty ID is none.
func (s *buildStream) built(id string, tags []string) error {
	if id == "" {
		return nil
	}
	if s.quiet {
		return s.send(streamLine{id + "\n"})
	}
	result := auxLine{Aux: apibuild.Result{ID: id}}
	if s.buildkit {
		result.ID = "moby.image.id"
		return s.send(result)
	}
	const short = 12
	err := errors.Join(s.send(result), s.send(streamLine{"Successfully built " + strings.TrimPrefix(id, "sha256:")[:short] + "\n"}))
	for _, tag := range tags {
		err = errors.Join(err, s.send(streamLine{"Successfully tagged " + familiarTag(tag) + "\n"}))
	}
	return err
}
