package server

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"regexp"

	"github.com/shoal-dev/shoal/internal/api/version"
)

// versionPrefix is the API version that a path may start with.
var versionPrefix = regexp.MustCompile(`^/v(\d+\.\d+)(/.*)$`)

// SplitVersion takes the API version off a path: "/v1.51/info" is "1.51" and "/info". The version is empty if the path names
// none.
func SplitVersion(path string) (v, rest string) {
	if m := versionPrefix.FindStringSubmatch(path); m != nil {
		return m[1], m[2]
	}
	return "", path
}

// checkVersion refuses versions that are too old, or newer than this engine.
func checkVersion(v string) error {
	switch {
	case version.Older(v, version.Min):
		return BadRequest("client version %s is too old. Minimum supported API version is %s, please upgrade your client to a newer version", v, version.Min)
	case version.Older(version.Max, v):
		return BadRequest("client version %s is too new. Maximum supported API version is %s", v, version.Max)
	}
	return nil
}

// warningsKey is the key of the warnings of a request's conversion in its context.
type warningsKey struct{}

// Warnings is what the client of a request is to be warned of because of its API version, a sentence each. It is never nil.
func Warnings(r *http.Request) []string {
	if w, ok := r.Context().Value(warningsKey{}).([]string); ok {
		return w
	}
	return []string{}
}

// convertRequest rewrites a request as the newest API version words it.
func convertRequest(r *http.Request, c *version.Conversion) (*http.Request, error) {
	q := r.URL.Query()
	c.Query(q)
	r.URL.RawQuery = q.Encode()
	if !c.ReadsBody() {
		return r, nil
	}
	body, err := io.ReadAll(http.MaxBytesReader(nil, r.Body, MaxBodySize))
	if err != nil {
		return nil, BadRequest("read request: %v", err)
	}
	body, warnings, err := c.Body(body)
	if err != nil {
		return nil, err
	}
	r = r.WithContext(context.WithValue(r.Context(), warningsKey{}, append([]string{}, warnings...)))
	r.Body, r.ContentLength = io.NopCloser(bytes.NewReader(body)), int64(len(body))
	return r, nil
}

// convertingWriter is the answer to a client of an older API version.
type convertingWriter struct {
	http.ResponseWriter
	conversion *version.Conversion
}

// Unwrap lets http.ResponseController find what the writer can do.
func (c convertingWriter) Unwrap() http.ResponseWriter { return c.ResponseWriter }

// converted is the JSON of an answer, or of a part of a stream, as the client's API version words it; nil if it is not to be sent.
func converted(w http.ResponseWriter, answer any) ([]byte, error) {
	if c, ok := w.(convertingWriter); ok {
		var send bool
		var err error
		if answer, send, err = c.conversion.Answer(answer); err != nil || !send {
			return nil, err
		}
	}
	var text bytes.Buffer
	enc := json.NewEncoder(&text)
	enc.SetEscapeHTML(false)
	err := enc.Encode(answer)
	return text.Bytes(), err
}
