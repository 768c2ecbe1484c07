package quarantine

import (
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"testing"

	"github.com/shoal-dev/shoal/internal/atomicfile/faulttest"
	"github.com/shoal-dev/shoal/internal/events"
)

// What is set aside is where it was or in the quarantine, and never in neither.
func TestSettingAsideMeetsEveryFault(t *testing.T) {
	const steps = 11 // a folder made and flushed; create, write, flush, rename, flush; move, rename, flush twice
	open := func(dir string) *Quarantine {
		return Open(filepath.Join(dir, "quarantine"), slog.New(slog.DiscardHandler), &events.Bus{})
	}
	faulttest.Run(t, steps, faulttest.Case{
		Prepare: func(t *testing.T, dir string) {
			if err := os.WriteFile(filepath.Join(dir, "record"), []byte("half a rec"), 0o600); err != nil {
				t.Fatal(err)
			}
		},
		Do: func(dir string) error {
			return open(dir).SetAside(filepath.Join(dir, "record"), errors.New("malformed"))
		},
		State: func(_ *testing.T, dir string) string {
			_, err := os.Stat(filepath.Join(dir, "record"))
			items := open(dir).Items()
			switch {
			case err == nil && len(items) == 0:
				return "there"
			case err != nil && len(items) == 1:
				return "set aside"
			default:
				return "lost, or twice"
			}
		},
		Before: "there", After: "set aside",
	})
}
