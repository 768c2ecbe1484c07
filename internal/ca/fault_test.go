package ca_test

import (
	"errors"
	"os"
	"testing"
	"time"

	"github.com/shoal-dev/shoal/internal/atomicfile/faulttest"
	"github.com/shoal-dev/shoal/internal/ca"
	"github.com/shoal-dev/shoal/internal/shoal"
)

// Whatever happens at whichever step of a renewal, the node has the old identity or the new one; and while it joins, one or none.
func TestIdentitiesMeetEveryFault(t *testing.T) {
	root := newRoot(t)
	type pair struct{ cert, key []byte }
	issue := func() pair {
		key, csr, err := ca.NewRequest()
		if err != nil {
			t.Fatal(err)
		}
		cert, err := root.Sign(csr, shoal.NewID[shoal.NodeID](), "cluster", shoal.RoleWorker, time.Hour)
		if err != nil {
			t.Fatal(err)
		}
		return pair{cert, key}
	}
	first, second := issue(), issue()
	save := func(dir string, p pair) error {
		_, err := ca.SaveIdentity(dir, root.CertPEM, p.cert, p.key)
		return err
	}
	number := func(p pair) string {
		dir := t.TempDir()
		if err := save(dir, p); err != nil {
			t.Fatal(err)
		}
		id, err := ca.LoadIdentity(dir, nil)
		if err != nil {
			t.Fatal(err)
		}
		return id.Certificate().SerialNumber.String()
	}
	state := func(t *testing.T, dir string) string {
		id, err := ca.LoadIdentity(dir, nil)
		if errors.Is(err, os.ErrNotExist) {
			return "none"
		}
		if err != nil {
			t.Fatal(err)
		}
		return id.Certificate().SerialNumber.String()
	}
	const steps = 18 // three files of five; the key is moved, renamed, flushed
	t.Run("join", func(t *testing.T) {
		faulttest.Run(t, steps, faulttest.Case{Do: func(dir string) error { return save(dir, first) }, State: state, Before: "none", After: number(first)})
	})
	t.Run("renew", func(t *testing.T) {
		faulttest.Run(t, steps, faulttest.Case{
			Prepare: func(t *testing.T, dir string) {
				if err := save(dir, first); err != nil {
					t.Fatal(err)
				}
			},
			Do: func(dir string) error { return save(dir, second) }, State: state, Before: number(first), After: number(second),
		})
	})
}
