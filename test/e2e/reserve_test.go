package e2e

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/shoal-dev/shoal/test/images"
)

// What containers print, and images, filled a manager's disk until the cluster's state could not be changed any more. They must stop before that, in words.
func TestImagesAndLogsLeaveTheStateItsRoom(t *testing.T) {
	t.Parallel()
	c := newLab(t, "reserve")
	c.smallDisk(c.n1, "4g")
	c.loadImages(c.n1)
	c.ok(c.n1, "swarm", "init", "--advertise-addr", c.n1.Addr)
	c.ok(c.n1, "run", "-d", "--name", "talker", "busybox", "sh", "-c", "while :; do echo x; usleep 100000; done")
	lines := func() int { return strings.Count(c.docker(c.n1, "logs", "talker").Stdout, "x") }
	c.eventually(10*time.Second, "lines are logged", func() error {
		if lines() == 0 {
			return errors.New("none")
		}
		return nil
	})
	filler := filepath.Join(c.n1.DataRoot(), "filler")
	file, err := os.Create(filler)
	if err != nil {
		t.Fatal(err)
	}
	var fs unix.Statfs_t
	if err := unix.Statfs(c.n1.DataRoot(), &fs); err != nil {
		t.Fatal(err)
	}
	const left = 400 << 20 // an eighth of the disk is 512 MiB, and the store needs 256
	if err := errors.Join(unix.Fallocate(int(file.Fd()), 0, 0, int64(fs.Bavail)*fs.Bsize-left), file.Close()); err != nil {
		t.Fatal(err)
	}
	archives, err := images.Build(t.Context(), images.CacheDir())
	if err != nil {
		t.Fatal(err)
	}
	c.eventually(10*time.Second, "images are refused in words", func() error {
		if r := c.docker(c.n1, "load", "-q", "-i", archives["nginx"]); r.Code == 0 || !strings.Contains(r.Text(), "is kept for the cluster's state") {
			return errors.New(r.Text())
		}
		return nil
	})
	if info := c.docker(c.n1, "info").Text(); !strings.Contains(info, "what containers print is not logged") {
		t.Errorf("docker info:\n%s", info)
	}
	before := lines()
	c.ok(c.n1, "service", "create", "-d", "--name", "web", "busybox", "sleep", "1d")
	c.eventually(10*time.Second, "the cluster's state can be changed", func() error { return c.running("web", 1) })
	if now := lines(); now != before {
		t.Errorf("%d lines were logged", now-before)
	}
	if err := os.Remove(filler); err != nil {
		t.Fatal(err)
	}
	c.eventually(10*time.Second, "lines are logged again", func() error {
		if lines() == before {
			return errors.New("none")
		}
		return nil
	})
	c.ok(c.n1, "load", "-q", "-i", archives["nginx"])
}
