package server

import (
	"bufio"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
)

// sharedText is text that several goroutines write and read.
type sharedText struct {
	mu   sync.Mutex // guards text
	text strings.Builder
}

func (s *sharedText) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.Write(p)
}

func (s *sharedText) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.String()
}

func TestAPanicEndsOneRequestOnly(t *testing.T) {
	var log sharedText
	mux := http.NewServeMux()
	mux.HandleFunc("/before", func(http.ResponseWriter, *http.Request) { panic("no head") })
	mux.HandleFunc("/during", func(w http.ResponseWriter, _ *http.Request) {
		_ = StartJSONStream(w).Send("half")
		panic("no tail")
	})
	mux.HandleFunc("/hijacked", func(w http.ResponseWriter, r *http.Request) {
		if _, err := HijackStream(w, r, false); err != nil {
			t.Error(err)
		}
		panic("no stream") // and nobody closes the connection
	})
	mux.HandleFunc("/fine", func(http.ResponseWriter, *http.Request) {})
	s := httptest.NewServer(Recover(slog.New(slog.NewTextHandler(&log, nil)), mux))
	defer s.Close()
	ask := func(path string) (int, string, error) {
		resp, err := http.Get(s.URL + path)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		text, err := io.ReadAll(resp.Body)
		return resp.StatusCode, string(text), err
	}
	if code, text, err := ask("/before"); code != http.StatusInternalServerError || !strings.Contains(text, `"message":`) || !strings.Contains(text, "no head") {
		t.Errorf("%d %q %v", code, text, err)
	}
	if code, text, err := ask("/during"); code != http.StatusOK || err == nil {
		t.Errorf("half an answer passes for a whole one: %d %q", code, text)
	}
	conn, err := net.Dial("tcp", s.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := io.WriteString(conn, "POST /hijacked HTTP/1.1\r\nHost: x\r\nUpgrade: tcp\r\nConnection: Upgrade\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	if rest, err := io.ReadAll(bufio.NewReader(conn)); err != nil || !strings.HasPrefix(string(rest), "HTTP/1.1 101") { // it ends
		t.Errorf("%q, %v", rest, err)
	}
	if code, _, err := ask("/fine"); code != http.StatusOK || err != nil {
		t.Errorf("%d %v", code, err)
	}
	for _, want := range []string{"no head", "no tail", "no stream", "recover_test.go"} {
		if !strings.Contains(log.String(), want) {
			t.Errorf("the log lacks %s: %s", want, log.String())
		}
	}
}
