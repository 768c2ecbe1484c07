package server

import (
	"encoding/json"
	"errors"
	"io"
	"mime"
	"net/http"
	"reflect"
)

// MaxBodySize bounds a JSON request body, in bytes. Image archives and the like are read as streams instead.
const MaxBodySize = 4 << 20

// ReadJSON decodes the request's body into what v points to. An empty body leaves v alone; what is no JSON, or not only JSON, or does not fit,
// is answered with status 400, and so is null where a list has pointers. Pointers that are values of maps may be nil.
func ReadJSON(r *http.Request, v any) error {
	if r.ContentLength == 0 || r.Body == nil {
		return nil
	}
	if err := checkContentType(r.Header.Get("Content-Type")); err != nil {
		return err
	}
	dec := json.NewDecoder(http.MaxBytesReader(nil, r.Body, MaxBodySize))
	if err := dec.Decode(v); err != nil {
		if errors.Is(err, io.EOF) {
			return BadRequest("invalid JSON: got EOF while reading request body")
		}
		return BadRequest("invalid JSON: %v", err)
	}
	if dec.More() {
		return BadRequest("unexpected content after JSON")
	}
	if hasNull(reflect.ValueOf(v)) {
		return BadRequest("invalid JSON: null in a list")
	}
	return nil
}

// checkContentType refuses a body that does not say that it is JSON.
func checkContentType(text string) error {
	kind, _, err := mime.ParseMediaType(text)
	switch {
	case err != nil:
		return BadRequest("malformed Content-Type header (%s): %v", text, err)
	case kind != "application/json":
		return BadRequest("unsupported Content-Type header (%s): must be 'application/json'", text)
	}
	return nil
}

// hasNull tells whether a list that can be reached from v has a nil pointer as an element: no request means anything by that.
func hasNull(v reflect.Value) bool {
	switch v.Kind() { //nolint:exhaustive // the kinds that others can be reached from
	case reflect.Pointer, reflect.Interface:
		return !v.IsNil() && hasNull(v.Elem())
	case reflect.Struct:
		for field, value := range v.Fields() {
			if field.IsExported() && hasNull(value) {
				return true
			}
		}
	case reflect.Map:
		for it := v.MapRange(); it.Next(); {
			if hasNull(it.Value()) {
				return true
			}
		}
	case reflect.Slice:
		if v.Type().Elem().Kind() == reflect.Uint8 {
			return false // bytes
		}
		for i := range v.Len() {
			if e := v.Index(i); e.Kind() == reflect.Pointer && e.IsNil() || hasNull(e) {
				return true
			}
		}
	}
	return false
}

// WriteJSON answers with a status and a JSON body, as the client's API version words it.
func WriteJSON(w http.ResponseWriter, status int, body any) error {
	text, err := converted(w, body)
	if err != nil {
		return err
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, err = w.Write(text)
	return err
}

// NoContent answers with status 204, unless err says that the request failed: that is returned.
func NoContent(w http.ResponseWriter, err error) error {
	if err == nil {
		w.WriteHeader(http.StatusNoContent)
	}
	return err
}

// JSONStream answers with JSON objects one after another, each sent at once, as the client's API version words them.
type JSONStream struct{ w http.ResponseWriter }

// StartJSONStream sends the header, so that a client knows that it is being served before there is anything to send.
func StartJSONStream(w http.ResponseWriter) *JSONStream {
	if w.Header().Get("Content-Type") == "" {
		w.Header().Set("Content-Type", "application/json")
	}
	w.WriteHeader(http.StatusOK)
	s := &JSONStream{w: w}
	s.flush()
	return s
}

// Send sends one object. An error means that the client is gone, or that v has no JSON.
func (s *JSONStream) Send(v any) error {
	text, err := converted(s.w, v)
	if err != nil {
		return err
	}
	if _, err := s.w.Write(text); err != nil {
		return err
	}
	s.flush()
	return nil
}

func (s *JSONStream) flush() {
	_ = http.NewResponseController(s.w).Flush() // a writer that cannot flush sends when it is done
}
