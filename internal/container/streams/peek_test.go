package streams

import (
	"bytes"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/shoal-dev/shoal/internal/logs"
)

// A daemon that was killed while it wrote the log took with it what it had read: up to 32 KiB of lines.
func TestOutputIsInTheLogBeforeItIsOutOfThePipe(t *testing.T) {
	path := filepath.Join(t.TempDir(), "fifo")
	if err := unix.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
	both, err := os.OpenFile(path, os.O_RDWR, 0) // so that the others open at once
	if err != nil {
		t.Fatal(err)
	}
	r, err := os.OpenFile(path, os.O_RDONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	w, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	probe, err := unix.Open(path, unix.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(probe)
	writes := 0
	room := func(int64) error { // is asked before each write to the log
		writes++
		if n, err := unix.IoctlGetInt(probe, unix.TIOCINQ); err != nil || n == 0 {
			t.Errorf("what is written to the log is out of the pipe: %d, %v", n, err)
		}
		return nil
	}
	log := logs.Open(filepath.Join(t.TempDir(), "log"), logs.Options{Driver: "json-file", MaxFile: 1}, room)
	s := &Streams{}
	client := &bytes.Buffer{}
	s.Attach(client, nil)
	text := strings.Repeat("a line of some length\n", 20_000)
	go func() {
		_, _ = w.WriteString(text)
		_ = w.Close()
		_ = both.Close()
	}()
	n, err := io.Copy(s.Output(log.Writer(logs.Stdout), logs.Stdout), r)
	if err != nil || n != int64(len(text)) || client.String() != text || writes < 2 {
		t.Errorf("%d of %d bytes, %v, %d writes; the client has %d", n, len(text), err, writes, client.Len())
	}
	var got strings.Builder
	if err := log.Read(t.Context(), logs.Query{Tail: -1, Stdout: true}, func(l logs.Line) error { got.WriteString(l.Text); return nil }); err != nil || got.String() != text {
		t.Errorf("the log has %d of %d bytes, %v", got.Len(), len(text), err)
	}
}
