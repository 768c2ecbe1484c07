package engine

import (
	"context"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/distribution/reference"
	eventtypes "github.com/moby/moby/api/types/events"

	"github.com/shoal-dev/shoal/internal/api/convert"
	"github.com/shoal-dev/shoal/internal/api/server"
	"github.com/shoal-dev/shoal/internal/api/version"
	"github.com/shoal-dev/shoal/internal/events"
)

// eventStream serves /events.
type eventStream struct{ bus *events.Bus }

func (s *eventStream) Register(rt *server.Router) {
	rt.Handle("GET /events", s.stream)
}

// stream sends the events that pass the filters, as JSON objects one after another.
func (s *eventStream) stream(w http.ResponseWriter, r *http.Request) error {
	f, err := server.ReadFilters(r, "type", "event", "scope", "container", "image", "volume", "network", "daemon", "service", "node", "secret", "config", "label", "plugin", "id")
	if err != nil {
		return err
	}
	since, err := server.ParseTimestamp(r.FormValue("since"))
	if err != nil {
		return err
	}
	until, err := server.ParseTimestamp(r.FormValue("until"))
	if err != nil {
		return err
	}
	if !until.IsZero() && until.Before(since) {
		return server.BadRequest("`since` time (%s) cannot be after `until` time (%s)", r.FormValue("since"), r.FormValue("until"))
	}
	w.Header().Set("Content-Type", eventsType(r))
	out := server.StartJSONStream(w)
	send := func(e events.Event) error {
		if !matchesEvent(f, e) || (!until.IsZero() && e.Time.After(until)) {
			return nil
		}
		return out.Send(toAPIEvent(e))
	}
	if !until.IsZero() && !until.After(time.Now()) {
		for _, e := range s.bus.Past(since, until) {
			if err := send(e); err != nil {
				return nil //nolint:nilerr // the client is gone
			}
		}
		return nil
	}
	ctx := r.Context()
	if !until.IsZero() {
		deadline, cancel := context.WithDeadline(ctx, until)
		defer cancel()
		ctx = deadline
	}
	if err := s.bus.Follow(ctx, since, send); ctx.Err() == nil {
		return err
	}
	return nil // the client is gone, or the time is over
}

// eventsType is the content type of a stream of events: JSON in lines, which older clients take for plain JSON.
func eventsType(r *http.Request) string {
	const lines, newlines = "application/jsonl", "application/x-ndjson"
	switch accept := r.Header.Get("Accept"); {
	case version.Before(r.Context(), "1.52"):
		return "application/json"
	case strings.Contains(accept, newlines) && !strings.Contains(accept, lines):
		return newlines
	}
	return lines
}

func toAPIEvent(e events.Event) eventtypes.Message {
	return eventtypes.Message{
		Type: eventtypes.Type(e.Type), Action: eventtypes.Action(e.Action), Scope: e.Scope,
		Actor: eventtypes.Actor{ID: e.ID, Attributes: convert.NonNil(e.Attributes)},
		Time:  e.Time.Unix(), TimeNano: e.Time.UnixNano(),
	}
}

// publishPrune tells that unused objects of a kind have been removed.
func publishPrune(bus *events.Bus, kind string, reclaimed int64) {
	bus.Publish(events.Event{Type: kind, Action: "prune", Attributes: map[string]string{"reclaimed": strconv.FormatInt(reclaimed, 10)}})
}

// aboutImage tells whether an event is about an image, or about a container that was made from it. An image without its tag is meant with any.
func aboutImage(e events.Event, want string) bool {
	name := e.Attributes["image"]
	if e.Type == "image" {
		name = e.Attributes["name"]
	}
	for _, have := range []string{e.ID, name} {
		if have == want || withoutTag(have) == want {
			return true
		}
	}
	return false
}

// withoutTag is the name of an image without its tag.
func withoutTag(name string) string {
	ref, err := reference.ParseNormalizedNamed(name)
	if err != nil {
		return name
	}
	return reference.FamiliarName(ref)
}

// matchesEvent tells whether an event passes the filters.
func matchesEvent(f server.Filters, e events.Event) bool {
	if !f.Equal("type", e.Type) || !f.Equal("scope", e.Scope) || !f.LabelsNamed("label", e.Attributes) || !f.Equal("id", e.ID) {
		return false
	}
	if !f.Any("event", func(want string) bool { return e.Action == want || strings.HasPrefix(e.Action, want+":") }) {
		return false
	}
	if !f.Any("image", func(want string) bool { return aboutImage(e, want) }) {
		return false
	}
	for _, kind := range []string{"container", "volume", "network", "daemon", "service", "node", "secret", "config", "plugin"} {
		if f.Has(kind) && (e.Type != kind || !f.Any(kind, func(want string) bool {
			return strings.HasPrefix(e.ID, want) || e.Attributes["name"] == want
		})) {
			return false
		}
	}
	return true
}
