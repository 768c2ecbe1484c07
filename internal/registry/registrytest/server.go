// Package registrytest is a registry for tests: in memory, with or without TLS, with basic authentication or tokens, and with faults.
package registrytest

import (
	"bytes"
	"crypto/tls"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"io"
	"log"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-containerregistry/pkg/registry"
)

// Options is what a registry is like; the zero Options is one that lets everybody in, without TLS, on loopback.
type Options struct {
	Listener           net.Listener // nil for one on loopback
	TLS                bool
	Username, Password string // of the only account; empty lets everybody in
	Tokens             bool   // instead of basic authentication: tokens, for the password or the identity token
}

// IdentityToken is what a registry with tokens gives for the password.
const IdentityToken = "an identity token"

// token is what it gives for either, to be shown with every request.
const token = "a token"

// Server is a registry that serves until its test ends.
type Server struct {
	options Options
	server  *httptest.Server
	store   http.Handler

	mu    sync.Mutex // guards all below
	fault func(w http.ResponseWriter, r *http.Request, next http.Handler)
	calls []string
}

// New starts a registry.
func New(t testing.TB, options Options) *Server {
	s := &Server{options: options, store: registry.New(registry.Logger(log.New(io.Discard, "", 0)))}
	s.server = httptest.NewUnstartedServer(s)
	s.server.Config.ErrorLog = log.New(io.Discard, "", 0)
	if options.Listener != nil {
		_ = s.server.Listener.Close()
		s.server.Listener = options.Listener
	}
	if options.TLS {
		s.server.TLS = &tls.Config{MinVersion: tls.VersionTLS12}
		s.server.StartTLS()
	} else {
		s.server.Start()
	}
	t.Cleanup(s.server.Close)
	return s
}

// Addr is the registry in names of images: "127.0.0.1:41234".
func (s *Server) Addr() string { return s.server.Listener.Addr().String() }

// Certificate is the registry's own, in PEM: nobody else vouches for it.
func (s *Server) Certificate() []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.server.Certificate().Raw})
}

// Break has every request go through fault, which may pass it on; nil ends that.
func (s *Server) Break(fault func(w http.ResponseWriter, r *http.Request, next http.Handler)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fault = fault
}

// Calls lists the requests that were let in: "GET /v2/team/box/manifests/1".
func (s *Server) Calls() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]string{}, s.calls...)
}

// ServeHTTP implements http.Handler.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path == "/token" {
		s.serveToken(w, r)
		return
	}
	if !s.knows(r) {
		challenge := `Basic realm="registry"`
		if s.options.Tokens {
			challenge = `Bearer realm="` + s.server.URL + `/token",service="registry"`
		}
		w.Header().Set("WWW-Authenticate", challenge)
		http.Error(w, `{"errors":[{"code":"UNAUTHORIZED","message":"authentication required"}]}`, http.StatusUnauthorized)
		return
	}
	s.mu.Lock()
	fault := s.fault
	s.calls = append(s.calls, r.Method+" "+r.URL.Path)
	s.mu.Unlock()
	if fault == nil {
		s.store.ServeHTTP(w, r)
		return
	}
	fault(w, r, s.store)
}

// knows tells whether a request shows what the registry wants to see.
func (s *Server) knows(r *http.Request) bool {
	if s.options.Username == "" {
		return true
	}
	want := "Basic " + base64.StdEncoding.EncodeToString([]byte(s.options.Username+":"+s.options.Password))
	if s.options.Tokens {
		want = "Bearer " + token
	}
	return r.Header.Get("Authorization") == want
}

// serveToken answers both ways of asking for a token: a form (OAuth 2), and a query with basic authentication.
func (s *Server) serveToken(w http.ResponseWriter, r *http.Request) {
	username, password, _ := r.BasicAuth()
	if r.Method == http.MethodPost {
		username, password = r.PostFormValue("username"), r.PostFormValue("password")
	}
	refreshed := r.PostFormValue("grant_type") == "refresh_token" && r.PostFormValue("refresh_token") == IdentityToken
	if !refreshed && (username != s.options.Username || password != s.options.Password) {
		http.Error(w, `{"details":"incorrect username or password"}`, http.StatusUnauthorized)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(map[string]any{"token": token, "access_token": token, "refresh_token": IdentityToken, "expires_in": 300})
}

// Lie changes what the registry says of a path that has a part: one byte of the body is another.
func Lie(part string) func(http.ResponseWriter, *http.Request, http.Handler) {
	return func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		if r.Method != http.MethodGet || !strings.Contains(r.URL.Path, part) {
			next.ServeHTTP(w, r)
			return
		}
		answer := httptest.NewRecorder()
		next.ServeHTTP(answer, r)
		maps.Copy(w.Header(), answer.Header())
		body := bytes.Clone(answer.Body.Bytes())
		if len(body) > 0 {
			body[len(body)/2] ^= 1
		}
		w.WriteHeader(answer.Code)
		_, _ = w.Write(body)
	}
}

// Cut breaks the connection in the middle of each body that is longer than limit bytes.
func Cut(limit int) func(http.ResponseWriter, *http.Request, http.Handler) {
	return func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		next.ServeHTTP(&cutWriter{ResponseWriter: w, left: limit}, r)
	}
}

type cutWriter struct {
	http.ResponseWriter
	left int
}

func (w *cutWriter) Write(p []byte) (int, error) {
	if len(p) <= w.left {
		w.left -= len(p)
		return w.ResponseWriter.Write(p)
	}
	_, _ = w.ResponseWriter.Write(p[:w.left])
	if f, ok := w.ResponseWriter.(http.Flusher); ok {
		f.Flush()
	}
	panic(http.ErrAbortHandler)
}
