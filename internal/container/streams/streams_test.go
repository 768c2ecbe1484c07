package streams

import (
	"bytes"
	"errors"
	"io"
	"path/filepath"
	"testing"

	"github.com/shoal-dev/shoal/internal/logs"
)

type failingWriter struct{ writes int }

func (f *failingWriter) Write([]byte) (int, error) {
	f.writes++
	return 0, errors.New("the client is gone")
}

func TestAClientThatFailsDoesNotDisturbTheOthers(t *testing.T) {
	log := logs.Open(filepath.Join(t.TempDir(), "log"), logs.Options{Driver: "json-file", MaxFile: 1}, nil)
	s := &Streams{}
	gone, stdout, stderr := &failingWriter{}, &bytes.Buffer{}, &bytes.Buffer{}
	s.Attach(gone, nil)
	ended, _ := s.Attach(stdout, stderr)
	out := s.Output(log.Writer(logs.Stdout), logs.Stdout)
	for range 2 {
		if n, err := out.Write([]byte("out\n")); n != 4 || err != nil {
			t.Errorf("%d, %v", n, err)
		}
	}
	if _, err := s.Output(log.Writer(logs.Stderr), logs.Stderr).Write([]byte("err\n")); err != nil {
		t.Error(err)
	}
	if gone.writes != 1 || stdout.String() != "out\nout\n" || stderr.String() != "err\n" {
		t.Errorf("%d writes, stdout %q, stderr %q", gone.writes, stdout, stderr)
	}
	s.End()
	<-ended
}

func TestStandardInputBeginsAnewWithEachRun(t *testing.T) {
	s := &Streams{}
	for range 2 {
		in, ended := s.Stdin(), make(chan struct{})
		go func() {
			_, _ = io.WriteString(in, "typed")
			_ = in.Close()
		}()
		if got, err := io.ReadAll(s.TaskStdin(func() { close(ended) })); err != nil || string(got) != "typed" {
			t.Errorf("got %q, %v", got, err)
		}
		<-ended
		s.End()
	}
}
