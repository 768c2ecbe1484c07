package engine

import (
	"context"
	"net/http"
	"strings"

	eventtypes "github.com/moby/moby/api/types/events"

	"github.com/shoal-dev/shoal/internal/api/convert"
	"github.com/shoal-dev/shoal/internal/api/server"
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
	ctx := r.Context()
	if !until.IsZero() {
		deadline, cancel := context.WithDeadline(ctx, until)
		defer cancel()
		ctx = deadline
	}
	out := server.StartJSONStream(w)
	err = s.bus.Follow(ctx, since, func(e events.Event) error {
		if !matchesEvent(f, e) || (!until.IsZero() && e.Time.After(until)) {
			return nil
		}
		return out.Send(eventtypes.Message{
			Type: eventtypes.Type(e.Type), Action: eventtypes.Action(e.Action), Scope: e.Scope,
			Actor: eventtypes.Actor{ID: e.ID, Attributes: convert.NonNil(e.Attributes)},
			Time:  e.Time.Unix(), TimeNano: e.Time.UnixNano(),
		})
	})
	if ctx.Err() != nil {
		return nil // the client is gone, or the time is over
	}
	return err
}

// matchesEvent tells whether an event passes the filters.
func matchesEvent(f server.Filters, e events.Event) bool {
	if !f.Equal("type", e.Type) || !f.Equal("scope", e.Scope) || !f.LabelsNamed("label", e.Attributes) || !f.Equal("id", e.ID) {
		return false
	}
	if !f.Any("event", func(want string) bool { return e.Action == want || strings.HasPrefix(e.Action, want+":") }) {
		return false
	}
	for _, kind := range []string{"container", "image", "volume", "network", "daemon", "service", "node", "secret", "config", "plugin"} {
		if f.Has(kind) && (e.Type != kind || !f.Any(kind, func(want string) bool {
			return strings.HasPrefix(e.ID, want) || e.Attributes["name"] == want
		})) {
			return false
		}
	}
	return true
}
