package logs

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func read(t rapid.TB, l *Log, q Query) []string {
	var got []string
	if err := l.Read(context.Background(), q, func(line Line) error { got = append(got, line.Text); return nil }); err != nil {
		t.Fatal(err)
	}
	return got
}

// Whatever the pieces in which output arrives, the lines are the same, and the tail is the end of the whole.
func TestLinesDoNotDependOnPieces(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		dir, err := os.MkdirTemp("", "logs-*") //nolint:usetesting // one for each draw
		if err != nil {
			t.Fatal(err)
		}
		defer os.RemoveAll(dir)
		l := Open(filepath.Join(dir, "log"), Options{Driver: "json-file", MaxFile: 1}, nil)
		lines := rapid.SliceOfN(rapid.StringMatching(`[a-z]{0,20}`), 0, 20).Draw(t, "lines")
		text := ""
		for _, line := range lines {
			text += line + "\n"
		}
		w := l.Writer(Stdout)
		for rest := text; rest != ""; {
			n := rapid.IntRange(1, len(rest)).Draw(t, "piece")
			_, _ = w.Write([]byte(rest[:n]))
			rest = rest[n:]
		}
		w.Flush()
		l.End()
		all := read(t, l, Query{Tail: -1, Stdout: true})
		if strings.Join(all, "") != text {
			t.Fatalf("wrote %q, read %q", text, all)
		}
		n := rapid.IntRange(0, 25).Draw(t, "tail")
		if tail := read(t, l, Query{Tail: n, Stdout: true}); !slices.Equal(tail, all[max(0, len(all)-n):]) {
			t.Fatalf("tail %d of %q is %q", n, all, tail)
		}
	})
}

func TestFollowSeesEveryLineThroughRotations(t *testing.T) {
	l := Open(filepath.Join(t.TempDir(), "log"), Options{Driver: "json-file", MaxSize: 2000, MaxFile: 100}, nil)
	l.Begin()
	const many = 200
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	started, got := make(chan struct{}), make(chan []string)
	go func() {
		var lines []string
		err := l.Read(ctx, Query{Tail: -1, Follow: true, Stdout: true}, func(line Line) error {
			if len(lines) == 0 {
				close(started)
			}
			lines = append(lines, line.Text)
			return nil
		})
		if err != nil {
			t.Error(err)
		}
		got <- lines
	}()
	w := l.Writer(Stdout)
	fmt.Fprintln(w, 0)
	<-started
	for i := 1; i < many; i++ {
		fmt.Fprintln(w, i)
	}
	l.End()
	lines := <-got
	if len(lines) != many {
		t.Errorf("%d lines of %d", len(lines), many)
	}
}

// The start of a line that a daemon had read when it was killed was lost, and the rest of the line logged as a line.
func TestALineThatADaemonHasBegunIsEndedByTheNext(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	opts := Options{Driver: "json-file", MaxFile: 1}
	l := Open(path, opts, nil)
	w := l.Writer(Stdout)
	for _, piece := range []string{"whole\na rather long beginning", " and\nbeg", "inning"} {
		w.Add([]byte(piece))
	}
	l = Open(path, opts, nil) // a daemon that is killed does no more
	w = l.Writer(Stdout)
	_, _ = w.Write([]byte(" and end\nlast"))
	w.Flush()
	_, _ = l.Writer(Stderr).Write([]byte("err"))
	l = Open(path, opts, nil)
	l.Recover()
	l.Recover()
	if got := read(t, l, Query{Tail: -1, Stdout: true, Stderr: true}); !slices.Equal(got, []string{"whole\n", "a rather long beginning and\n", "beginning and end\n", "last", "err"}) {
		t.Errorf("%q", got)
	}
}
