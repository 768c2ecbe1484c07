package local

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/shoal-dev/shoal/internal/atomicfile/faulttest"
	"github.com/shoal-dev/shoal/internal/network/ipam"
	"github.com/shoal-dev/shoal/internal/shoal"
)

// networkNames is the networks that a daemon finds that is started on the directory: it must start, and set nothing aside.
func networkNames(t *testing.T, dir string) string {
	t.Helper()
	n := openNetworks(t, filepath.Join(dir, "network"))
	if aside, _ := filepath.Glob(filepath.Join(dir, "network", "aside-*")); len(aside) > 0 {
		t.Errorf("set aside: %v", aside)
	}
	return fmt.Sprint("is there: ", n.Find("n") != nil)
}

func openQuietly(dir string) (*Networks, error) {
	return Open(Config{Dir: filepath.Join(dir, "network"), Pools: ipam.DefaultPools(), Host: node{},
		Retry: func(string, error, func() error) {}, SetAside: func(string, error) error { return nil }})
}

func create(dir string) error {
	n, err := openQuietly(dir)
	if err != nil {
		return err
	}
	l, err := n.Create(shoal.NetworkSpec{Name: "n"}, nil)
	if err != nil {
		return err
	}
	return n.Save(l)
}

func TestCreationsAndRemovalsMeetEveryFault(t *testing.T) {
	const there, gone = "is there: true", "is there: false"
	t.Run("create", func(t *testing.T) {
		const steps = 7 // make and flush the folder; create, write, flush, rename, flush
		faulttest.Run(t, steps, faulttest.Case{Do: create, State: networkNames, Before: gone, After: there})
	})
	t.Run("remove", func(t *testing.T) {
		const steps = 2
		faulttest.Run(t, steps, faulttest.Case{
			Prepare: func(t *testing.T, dir string) {
				if err := create(dir); err != nil {
					t.Fatal(err)
				}
			},
			Do: func(dir string) error {
				n, err := openQuietly(dir)
				if err != nil {
					return err
				}
				l, err := n.Remove("n", func(*Network) error { return nil })
				if err != nil {
					return err
				}
				return n.RemoveRecord(l)
			},
			State: networkNames, Before: there, After: gone,
		})
	})
}

// The folder of a machine with a newer daemon's records, used by this one for a while.
func TestARecordOfANewerDaemonKeepsWhatThisOneDoesNotKnow(t *testing.T) {
	dir := t.TempDir()
	n := openNetworks(t, dir)
	l, err := n.createSaved(shoal.NetworkSpec{Name: "n", Driver: shoal.DriverBridge}, nil)
	if err != nil {
		t.Fatal(err)
	}
	file := n.recordFile(l.ID)
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	newer := append([]byte(`{"Queues":{"eth0":4},`), bytes.Replace(text[1:], []byte(`"SchemaVersion":1`), []byte(`"SchemaVersion":9`), 1)...)
	if err := os.WriteFile(file, newer, 0o600); err != nil {
		t.Fatal(err)
	}
	n = openNetworks(t, dir)
	if err := n.Save(n.Find("n")); err != nil {
		t.Fatal(err)
	}
	if text, err = os.ReadFile(file); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{`"Queues":{"eth0":4}`, `"SchemaVersion":9`} {
		if !bytes.Contains(text, []byte(want)) {
			t.Errorf("%s is not in %s", want, text)
		}
	}
}
