package volume

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/shoal-dev/shoal/internal/atomicfile"
	"github.com/shoal-dev/shoal/internal/atomicfile/faulttest"
	"github.com/shoal-dev/shoal/internal/events"
	"github.com/shoal-dev/shoal/internal/quarantine"
)

func openQuietly(dir string) (*Store, error) {
	log := slog.New(slog.DiscardHandler)
	return New(Config{Log: log, Root: filepath.Join(dir, "volumes"), Events: &events.Bus{}, Quarantine: quarantine.Open(filepath.Join(dir, "quarantine"), log, &events.Bus{})})
}

// found is what a daemon finds that is started on the directory: it must start, and set nothing aside. A volume that is there has its data.
func found(t *testing.T, dir string) string {
	t.Helper()
	s, err := openQuietly(dir)
	if err != nil {
		t.Fatal(err)
	}
	if problems := s.Quarantine.Problems(); len(problems) > 0 {
		t.Errorf("%q", problems)
	}
	v, err := s.Get("data")
	if err != nil {
		return "no volume"
	}
	text, err := os.ReadFile(filepath.Join(v.Mountpoint, "file"))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Error(err)
	}
	return fmt.Sprintf("%s with %q", v.Labels["a"], text)
}

func TestCreationsAndRemovalsMeetEveryFault(t *testing.T) {
	create := func(dir string) error {
		s, err := openQuietly(dir)
		if err == nil {
			_, err = s.Create(Spec{Name: "data", Labels: map[string]string{"a": "b"}})
		}
		return err
	}
	t.Run("create", func(t *testing.T) {
		const steps = 11 // three folders made and flushed; create, write, flush, rename, flush
		faulttest.Run(t, steps, faulttest.Case{Do: create, State: found, Before: "no volume", After: `b with ""`})
	})
	t.Run("remove", func(t *testing.T) {
		const steps = 2
		faulttest.Run(t, steps, faulttest.Case{
			Prepare: func(t *testing.T, dir string) {
				if err := create(dir); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(filepath.Join(dir, "volumes", "data", "_data", "file"), []byte("x"), 0o600); err != nil {
					t.Fatal(err)
				}
			},
			Do: func(dir string) error {
				s, err := openQuietly(dir)
				if err == nil {
					err = s.Remove("data", false)
				}
				return err
			},
			State: found, Before: `b with "x"`, After: "no volume",
		})
	})
}

// On a slow disk everybody waited for whoever made a volume.
func TestASlowDiskKeepsNobodyFromReading(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	if _, err := s.Create(Spec{Name: "there"}); err != nil {
		t.Fatal(err)
	}
	flushing, goOn := make(chan struct{}), make(chan struct{})
	defer atomicfile.SetFailpoint(dir, func(step atomicfile.Step, _ string) error {
		if step == atomicfile.StepFlush {
			close(flushing)
			<-goOn
		}
		return nil
	})()
	made := make(chan error, 1)
	go func() {
		_, err := s.Create(Spec{Name: "slow"})
		made <- err
	}()
	<-flushing
	read := make(chan error, 1)
	go func() {
		_, err := s.Get("there")
		if _, soon := s.Get("slow"); soon == nil {
			err = errors.New("a volume was there before it was on the disk")
		}
		read <- err
	}()
	select {
	case err := <-read:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(10 * time.Second):
		t.Error("reading waits for the disk")
	}
	close(goOn)
	if err := <-made; err != nil {
		t.Error(err)
	}
}
