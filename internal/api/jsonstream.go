package api

import (
	"context"
	"encoding/json"
	"net/http"
	"time"
)

// jsonStream writes JSON objects one after another, each sent at once.
type jsonStream struct {
	w       http.ResponseWriter
	enc     *json.Encoder
	started bool
}

func newJSONStream(w http.ResponseWriter) *jsonStream {
	return &jsonStream{w: w, enc: json.NewEncoder(w)}
}

// start sends the header, so that a client knows that it is being served before anything happens.
func (s *jsonStream) start() {
	s.w.Header().Set("Content-Type", "application/json")
	s.w.WriteHeader(http.StatusOK)
	s.started = true
	s.flush()
}

func (s *jsonStream) send(v any) error {
	if !s.started {
		s.start()
	}
	if err := s.enc.Encode(v); err != nil {
		return err
	}
	s.flush()
	return nil
}

func (s *jsonStream) flush() {
	_ = http.NewResponseController(s.w).Flush() // a writer that cannot flush sends when it is done
}

// contextUntil ends at a wall-clock time.
func contextUntil(ctx context.Context, until time.Time) (context.Context, context.CancelFunc) {
	return context.WithDeadline(ctx, until)
}
