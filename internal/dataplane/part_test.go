package dataplane

import (
	"errors"
	"strings"
	"testing"
)

// A config that brings out a fault of ours in one of its parts ended the daemon, and did so again at every start.
func TestAFaultIsAnErrorOfItsPart(t *testing.T) {
	var failed failures
	parallel(t.Context(), []string{"a", "b"}, func(name string) {
		failed.try(overlayPart(name), func() error {
			if name == "a" {
				panic("index out of range")
			}
			return nil
		})
	})
	var part *PartError
	if len(failed.errs) != 1 || !errors.As(failed.errs[0], &part) || part.Part != "overlay a" || !strings.Contains(part.Error(), "index out of range") {
		t.Errorf("%v", failed.errs)
	}
}
