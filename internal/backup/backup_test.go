package backup_test

import (
	"bytes"
	"errors"
	"io"
	"testing"

	"github.com/shoal-dev/shoal/internal/backup"
)

func seal(t *testing.T, content []byte, passphrase string) []byte {
	t.Helper()
	var file bytes.Buffer
	w, err := backup.Seal(&file, passphrase)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(content); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return file.Bytes()
}

func open(file []byte, passphrase string) ([]byte, error) {
	r, err := backup.Open(bytes.NewReader(file), passphrase)
	if err != nil {
		return nil, err
	}
	return io.ReadAll(r)
}

func TestWhatWasSealedComesBack(t *testing.T) {
	for _, size := range []int{0, 1, 64<<10 - 1, 64 << 10, 64<<10 + 1, 300 << 10} {
		content := bytes.Repeat([]byte("0123456789abcdef"), size/16+1)[:size]
		file := seal(t, content, "secret")
		if got, err := open(file, "secret"); err != nil || !bytes.Equal(got, content) {
			t.Errorf("%d bytes come back as %d, %v", size, len(got), err)
		}
		if size > 100 && bytes.Contains(file, content[:32]) {
			t.Error("the content is readable")
		}
	}
}

func TestDamageIsFound(t *testing.T) {
	content := bytes.Repeat([]byte("0123456789abcdef"), 20<<10)
	file := seal(t, content, "secret")
	if _, err := open(file, "Secret"); !errors.Is(err, backup.ErrSealed) {
		t.Errorf("with another passphrase: %v", err)
	}
	if _, err := open(file, ""); !errors.Is(err, backup.ErrNoPassphrase) {
		t.Errorf("without a passphrase: %v", err)
	}
	line := bytes.IndexByte(file, '\n') + 1
	const piece = 64<<10 + 16
	for name, damaged := range map[string][]byte{
		"cut off in a piece":     file[:len(file)-100],
		"cut off after a piece":  file[:line+2*piece],
		"a piece left out":       append(bytes.Clone(file[:line+piece]), file[line+2*piece:]...),
		"something added":        append(bytes.Clone(file), 0),
		"a byte changed":         append(append(bytes.Clone(file[:line+piece+5]), file[line+piece+5]^1), file[line+piece+6:]...),
		"nothing but the header": file[:line],
		"nothing":                nil,
		"another file":           []byte("#!/bin/sh\necho\n"),
	} {
		if got, err := open(damaged, "secret"); err == nil {
			t.Errorf("%s: %d bytes were read without an error", name, len(got))
		}
	}
}
