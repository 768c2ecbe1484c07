package ca_test

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"regexp"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/shoal-dev/shoal/internal/ca"
	"github.com/shoal-dev/shoal/internal/shoal"
)

func TestWhatIsLockedOpensWithItsKeyOnly(t *testing.T) {
	key, other := ca.NewLockKey(), ca.NewLockKey()
	rapid.Check(t, func(t *rapid.T) {
		data := rapid.SliceOf(rapid.Byte()).Draw(t, "data")
		locked, err := key.Lock(data)
		if err != nil {
			t.Fatal(err)
		}
		if open, err := key.Open(locked); err != nil || !bytes.Equal(open, data) {
			t.Fatalf("opened %q, %v", open, err)
		}
		if _, err := other.Open(locked); !errors.Is(err, ca.ErrWrongKey) {
			t.Fatalf("another key: %v", err)
		}
		if _, err := ca.LockKey(nil).Open(locked); !errors.Is(err, ca.ErrLocked) {
			t.Fatalf("no key: %v", err)
		}
	})
}

func TestLockKeysHaveDockersShape(t *testing.T) {
	key := ca.NewLockKey()
	if !regexp.MustCompile(`^SWMKEY-1-[0-9A-Za-z+/]{43}$`).MatchString(key.String()) {
		t.Errorf("key %q", key)
	}
	if again, err := ca.ParseLockKey(key.String()); err != nil || !bytes.Equal(again, key) {
		t.Errorf("parsed %q, %v", again, err)
	}
	for _, text := range []string{"SWMKEY-1-", "SWMKEY-2-" + key.String()[9:], key.String()[9:], key.String() + "A", "x"} {
		if _, err := ca.ParseLockKey(text); !errors.Is(err, ca.ErrWrongKey) {
			t.Errorf("ParseLockKey(%q): %v", text, err)
		}
	}
}

func TestALockedIdentity(t *testing.T) {
	root := newRoot(t)
	id := newIdentity(t, root, shoal.RoleManager)
	key := ca.NewLockKey()
	if err := id.Lock(key); err != nil {
		t.Fatal(err)
	}
	if _, err := ca.LoadIdentity(id.Dir(), nil); !errors.Is(err, ca.ErrLocked) {
		t.Errorf("without the key: %v", err)
	}
	if _, err := ca.LoadIdentity(id.Dir(), ca.NewLockKey()); !errors.Is(err, ca.ErrWrongKey) {
		t.Errorf("with another key: %v", err)
	}
	again, err := ca.LoadIdentity(id.Dir(), key)
	if err != nil {
		t.Fatal(err)
	}

	keyPEM, csr, err := ca.NewRequest()
	if err != nil {
		t.Fatal(err)
	}
	cert, err := root.Sign(csr, id.NodeID(), "cluster", shoal.RoleManager, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	if err := again.Renew(root.CertPEM, cert, keyPEM); err != nil {
		t.Fatal(err)
	}
	kept, err := os.ReadFile(filepath.Join(id.Dir(), ca.KeyFile))
	if err != nil || bytes.Contains(kept, []byte("PRIVATE KEY")) {
		t.Errorf("a renewed key is on the disk in the clear (%v)", err)
	}
	if open, err := os.ReadFile(again.OpenKeyFile()); err != nil || !bytes.Equal(open, keyPEM) {
		t.Errorf("the open key file has %q, %v", open, err)
	}
}
