package runtime

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/shoal-dev/shoal/internal/atomicfile/faulttest"
)

// A program that is there is whole, whatever happened while it was unpacked; and the next start has it in any case.
func TestUnpackingMeetsEveryFault(t *testing.T) {
	const steps = 6 // two folders made and flushed; rename, flush
	unpacked := func(dir string) error {
		_, err := program("", filepath.Join(dir, "programs"), ownShim)
		return err
	}
	faulttest.Run(t, steps, faulttest.Case{
		Do: unpacked,
		State: func(t *testing.T, dir string) string {
			found, err := filepath.Glob(filepath.Join(dir, "programs", "*", ownShim))
			if err != nil {
				t.Fatal(err)
			}
			whole := len(found) == 1 && isUnpacked(found[0], ownShim)
			if len(found) == 1 && !whole {
				t.Error("a part of a program has its name")
			}
			if err := unpacked(dir); err != nil {
				t.Errorf("the next start: %v", err)
			}
			if path, _ := filepath.Glob(filepath.Join(dir, "programs", "*", ownShim)); len(path) != 1 {
				t.Error("the next start has no program")
			} else if info, err := os.Stat(path[0]); err != nil || info.Mode()&0o111 == 0 || !isUnpacked(path[0], ownShim) {
				t.Errorf("the next start: %v, %v", info, err)
			}
			return fmt.Sprint("whole: ", whole)
		},
		Before: "whole: false", After: "whole: true",
	})
}
