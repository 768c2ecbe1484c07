package logs

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/shoal-dev/shoal/internal/logs/driver"
)

// Packed files are read as the others, also by a reader that follows while they are rotated and packed.
func TestPackedFilesAreRead(t *testing.T) {
	dir := t.TempDir()
	l := Open(filepath.Join(dir, "log"), Options{Driver: "json-file", MaxSize: 2000, MaxFile: 100, Compress: true}, nil)
	l.Begin()
	const many = 500
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	started, followed := make(chan struct{}), make(chan string)
	go func() {
		var b strings.Builder
		_ = l.Read(ctx, Query{Tail: -1, Follow: true, Stdout: true}, func(line Line) error {
			if b.Len() == 0 {
				close(started)
			}
			b.WriteString(line.Text)
			return nil
		})
		followed <- b.String()
	}()
	w := l.Writer(Stdout)
	fmt.Fprintln(w, 0)
	<-started
	for i := 1; i < many; i++ {
		fmt.Fprintln(w, i)
	}
	l.End()
	if got := <-followed; got != numbered(0, many) {
		t.Errorf("followed: %q", got)
	}
	<-l.packed
	if got := strings.Join(read(t, l, Query{Tail: -1, Stdout: true}), ""); got != numbered(0, many) {
		t.Errorf("read: %q", got)
	}
	for n := range l.rotations {
		if _, err := os.Stat(l.rotatedPath(n+1) + ".gz"); err != nil {
			t.Error(err)
		}
		if _, err := os.Stat(l.rotatedPath(n + 1)); err == nil {
			t.Errorf("%s is there unpacked, too", l.rotatedPath(n+1))
		}
	}
	// A daemon that was killed while it packed has left a file that is not whole, and the file before it was packed.
	plain := Open(filepath.Join(t.TempDir(), "log"), Options{Driver: "json-file", MaxSize: 2000, MaxFile: 3}, nil)
	_, _ = plain.Writer(Stdout).Write([]byte(numbered(0, 40)))
	plain.End()
	if err := os.WriteFile(plain.rotatedPath(1)+".gz.next", []byte("half"), 0o600); err != nil {
		t.Fatal(err)
	}
	next := Open(plain.path, Options{Driver: "json-file", MaxSize: 2000, MaxFile: 100, Compress: true}, nil)
	_, _ = next.Writer(Stdout).Write([]byte(numbered(40, 200)))
	next.End()
	if got := strings.Join(read(t, next, Query{Tail: -1, Stdout: true}), ""); got != numbered(0, 200) {
		t.Errorf("after a crash: %q", got)
	}
}

func TestOldFilesGo(t *testing.T) {
	dir := t.TempDir()
	l := Open(filepath.Join(dir, "log"), Options{Driver: "json-file", MaxSize: 1000, MaxFile: 3, Compress: true}, nil)
	_, _ = l.Writer(Stdout).Write([]byte(numbered(0, 1000)))
	l.End()
	<-l.packed
	all, err := filepath.Glob(filepath.Join(dir, "*"))
	if err != nil || len(all) != 3 {
		t.Errorf("%q, %v", all, err)
	}
	got := strings.Join(read(t, l, Query{Tail: -1, Stdout: true}), "")
	if !strings.HasSuffix(numbered(0, 1000), got) || got == "" {
		t.Errorf("%q", got)
	}
}

// Labels, environment and tag that the options choose are with each line, as docker logs --details shows them.
func TestAttributesOfLines(t *testing.T) {
	options := map[string]string{"labels": "tier", "env": "COLOUR", "tag": "{{.Name}}"}
	opts, err := ParseOptions("", options)
	if err != nil {
		t.Fatal(err)
	}
	l := Open(opts.Path(t.TempDir(), "id"), opts, nil)
	facts := driver.Facts{Name: "web", Labels: map[string]string{"tier": "front", "other": "x"}, Env: []string{"COLOUR=red"}}
	if err := l.Start(t.Context(), Start{Options: options, Facts: facts}); err != nil {
		t.Fatal(err)
	}
	fmt.Fprintln(l.Writer(Stdout), "hello")
	l.End()
	data, err := os.ReadFile(l.Path())
	if err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(string(data), `{"log":"hello\n","stream":"stdout","attrs":{"COLOUR":"red","tag":"web","tier":"front"},"time":"`) {
		t.Errorf("%s", data)
	}
	var line Line
	if err := json.Unmarshal(data, &line); err != nil || len(line.Attrs) != 3 {
		t.Errorf("%+v, %v", line, err)
	}
}
