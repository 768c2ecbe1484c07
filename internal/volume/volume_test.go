package volume

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/containerd/containerd/v2/core/mount"
	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"

	"github.com/shoal-dev/shoal/internal/events"
	"github.com/shoal-dev/shoal/internal/quarantine"
)

func open(t *testing.T, dir string) *Store {
	t.Helper()
	s, err := New(Config{Log: slog.New(slog.NewTextHandler(t.Output(), nil)), Root: dir, Events: &events.Bus{}, Quarantine: quarantine.Open(filepath.Join(t.TempDir(), "quarantine"), slog.New(slog.DiscardHandler), &events.Bus{})})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestVolumesOutliveTheDaemon(t *testing.T) {
	dir := t.TempDir()
	v, err := open(t, dir).Create(Spec{Name: "data", Labels: map[string]string{"a": "b"}})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(v.Mountpoint, "f"), []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	again, err := open(t, dir).Get("data")
	if err != nil || again.Labels["a"] != "b" || Size(again) != 1 {
		t.Errorf("%+v, %v", again, err)
	}
}

func TestVolumeInUseIsNotRemoved(t *testing.T) {
	s := open(t, t.TempDir())
	for _, name := range []string{"used", ""} {
		v, err := s.Create(Spec{Name: name})
		if err != nil {
			t.Fatal(err)
		}
		if err := s.AddReference(v.Name, "c1"); err != nil {
			t.Fatal(err)
		}
		if err := s.Remove(v.Name, true); !errdefs.IsConflict(err) {
			t.Errorf("remove: %v", err)
		}
		if removed, _, err := s.Prune(true, nil); err != nil || len(removed) != 0 {
			t.Errorf("prune: %v, %v", removed, err)
		}
		s.RemoveReference(v.Name, "c1")
		if err := s.Remove(v.Name, false); err != nil {
			t.Error(err)
		}
	}
}

func TestBadRequestsAreRefused(t *testing.T) {
	s := open(t, t.TempDir())
	for _, spec := range []Spec{{Name: "a/b"}, {Name: "x", Driver: "nfs"}, {Name: "x", Options: map[string]string{"bad": "1"}}, {Name: "x", Options: map[string]string{"type": "nfs"}}} {
		if _, err := s.Create(spec); err == nil {
			t.Errorf("%+v was accepted", spec)
		}
	}
}

func TestOptionsBecomeAMount(t *testing.T) {
	lookupHost := func(host string) ([]string, error) {
		if host == "files.example" {
			return []string{"192.0.2.7", "192.0.2.8"}, nil
		}
		return nil, &net.DNSError{Err: "no such host", Name: host, IsNotFound: true}
	}
	for _, tc := range []struct {
		options map[string]string
		want    mount.Mount
	}{
		{map[string]string{"type": "nfs", "o": "addr=192.0.2.1,rw,nfsvers=4", "device": ":/srv/data"},
			mount.Mount{Type: "nfs", Source: ":/srv/data", Options: []string{"addr=192.0.2.1", "rw", "nfsvers=4"}}},
		{map[string]string{"type": "nfs4", "o": "ro,addr=files.example", "device": ":/"},
			mount.Mount{Type: "nfs4", Source: ":/", Options: []string{"ro", "addr=192.0.2.7"}}},
		{map[string]string{"type": "tmpfs", "o": "size=1m,uid=7", "device": "tmpfs"},
			mount.Mount{Type: "tmpfs", Source: "tmpfs", Options: []string{"size=1m", "uid=7"}}},
		{map[string]string{"type": "none", "o": "bind", "device": "/srv"}, mount.Mount{Type: "none", Source: "/srv", Options: []string{"bind"}}},
		{map[string]string{"type": "ext4", "device": "/dev/sdb1"}, mount.Mount{Type: "ext4", Source: "/dev/sdb1"}},
	} {
		if got, err := mountFromOptions(tc.options, lookupHost); err != nil || !reflect.DeepEqual(got, tc.want) {
			t.Errorf("%v: %+v, %v", tc.options, got, err)
		}
	}
	if _, err := mountFromOptions(map[string]string{"type": "nfs", "o": "addr=nowhere.example", "device": ":/"}, lookupHost); err == nil {
		t.Error("a server that is not found was mounted")
	}
}

// Volumes with options are mounted with their first user, stay so over a restart of the daemon, and take their mount along.
func TestVolumesAreMountedAsTheirOptionsSay(t *testing.T) {
	dir, source := t.TempDir(), t.TempDir()
	if err := os.WriteFile(filepath.Join(source, "there"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for name, options := range map[string]map[string]string{
		"memory": {"type": "tmpfs", "device": "tmpfs", "o": "size=1m,mode=750,uid=7"},
		"bound":  {"type": "none", "device": source, "o": "bind"},
	} {
		s := open(t, dir)
		if _, err := s.Create(Spec{Name: name, Options: options}); err != nil {
			t.Fatal(err)
		}
		at, err := s.Mount(name, "c1")
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(at, "mine"), nil, 0o600); err != nil {
			t.Error(err)
		}
		if _, err := open(t, dir).Mount(name, "c2"); err != nil { // another life of the daemon
			t.Error(err)
		}
		if _, err := os.Stat(filepath.Join(at, "mine")); err != nil {
			t.Errorf("%s was mounted over: %v", name, err)
		}
		var st unix.Stat_t
		if err := unix.Stat(at, &st); err != nil {
			t.Fatal(err)
		}
		if _, err := os.Stat(filepath.Join(at, "there")); (err == nil) != (name == "bound") {
			t.Errorf("%s: %v", name, err)
		}
		if name == "memory" && (st.Uid != 7 || st.Mode&0o777 != 0o750) {
			t.Errorf("%s: owner %d, mode %o", name, st.Uid, st.Mode)
		}
		if err := s.Remove(name, false); err != nil {
			t.Error(err)
		}
		if mounted, err := isMountpoint(at); mounted && err == nil {
			t.Errorf("%s is still mounted", name)
		}
	}
	if _, err := os.Stat(filepath.Join(source, "mine")); err != nil {
		t.Errorf("what the volume bound was removed with it: %v", err)
	}
}

// A volume that was mounted and empty when the daemon started again was mounted once more, over itself.
func TestEmptyMountedVolumeIsNotMountedTwice(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	if _, err := s.Create(Spec{Name: "empty", Options: map[string]string{"type": "tmpfs", "device": "tmpfs"}}); err != nil {
		t.Fatal(err)
	}
	var at string
	for range 2 { // two lives of the daemon
		var err error
		if at, err = open(t, dir).Mount("empty", "c"); err != nil {
			t.Fatal(err)
		}
	}
	mounts, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(string(mounts), " "+at+" "); n != 1 {
		t.Errorf("mounted %d times", n)
	}
	if err := s.Remove("empty", false); err != nil {
		t.Error(err)
	}
}

// A power cut left three volume records with length 0, and their volumes were gone.
func TestAMalformedRecordIsSetAsideAndTheDataStays(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	for _, name := range []string{"good", "cut"} {
		v, err := s.Create(Spec{Name: name})
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(v.Mountpoint, "file"), []byte("data"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Truncate(filepath.Join(dir, "cut", recordFile), 0); err != nil {
		t.Fatal(err)
	}
	s = open(t, dir)
	if _, err := s.Get("good"); err != nil {
		t.Error(err)
	}
	if _, err := s.Get("cut"); !errdefs.IsNotFound(err) {
		t.Errorf("a volume of whose options nothing is known: %v", err)
	}
	if got, err := os.ReadFile(filepath.Join(dir, "cut", "_data", "file")); err != nil || string(got) != "data" {
		t.Errorf("%q, %v", got, err)
	}
	if items := s.Quarantine.Items(); len(items) != 1 || items[0].Path != filepath.Join(dir, "cut", recordFile) {
		t.Errorf("set aside: %+v", items)
	}
}

// A bad block or too many open files made a volume vanish until the next start; a volume of its name that was made meanwhile replaced its record.
func TestAVolumeThatCannotBeReadIsReadAgain(t *testing.T) {
	dir := t.TempDir()
	if _, err := open(t, dir).Create(Spec{Name: "data", Labels: map[string]string{"a": "b"}}); err != nil {
		t.Fatal(err)
	}
	record := filepath.Join(dir, "data", recordFile)
	if err := os.Rename(record, record+".hidden"); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(record, 0o700); err != nil { // reading it gives an error of another kind than "no such file"
		t.Fatal(err)
	}
	s := open(t, dir)
	if _, err := s.Create(Spec{Name: "data"}); !errdefs.IsUnavailable(err) {
		t.Errorf("made over another: %v", err)
	}
	if got := s.Quarantine.Problems(); len(got) != 1 || !strings.Contains(got[0], "volume data") {
		t.Errorf("%q", got)
	}
	if err := errors.Join(os.Remove(record), os.Rename(record+".hidden", record)); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	go func() { _ = s.Quarantine.Run(ctx) }()
	for len(s.Quarantine.Problems()) > 0 && ctx.Err() == nil {
		<-time.After(10 * time.Millisecond)
	}
	if v, err := s.Get("data"); err != nil || v.Labels["a"] != "b" {
		t.Errorf("%+v, %v", v, err)
	}
}
