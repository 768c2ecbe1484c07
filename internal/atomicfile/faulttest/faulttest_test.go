package faulttest

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/shoal-dev/shoal/internal/atomicfile"
)

func TestARecordMeetsEveryFault(t *testing.T) {
	const steps = 5 // create, write, flush, rename, flush the directory
	Run(t, steps, Case{
		Prepare: func(t *testing.T, dir string) {
			if err := os.WriteFile(filepath.Join(dir, "r"), []byte("old"), 0o600); err != nil {
				t.Fatal(err)
			}
		},
		Do: func(dir string) error { return atomicfile.Write(filepath.Join(dir, "r"), []byte("new"), 0o600) },
		State: func(t *testing.T, dir string) string {
			text, err := os.ReadFile(filepath.Join(dir, "r"))
			if err != nil {
				t.Fatal(err)
			}
			return string(text)
		},
		Before: "old", After: "new",
	})
}
