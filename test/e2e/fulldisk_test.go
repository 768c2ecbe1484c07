package e2e

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// fill writes to a file until there is not a block left.
func fill(t *testing.T, file *os.File) {
	t.Helper()
	var err error
	for buffer := make([]byte, 1<<20); err == nil; {
		_, err = file.Write(buffer)
	}
	if !errors.Is(err, unix.ENOSPC) {
		t.Fatal(err)
	}
}

// A full disk once ended a manager's daemon with exit code 1 and no word. It must go on, say why it refuses changes, lose nothing, and take changes again
// when there is room.
func TestAManagersDiskIsFull(t *testing.T) {
	c := newLab(t, "full")
	c.loadImages(c.n1)
	disk := filepath.Join(c.n1.DataRoot(), "swarm")
	if err := c.n1.Stop(); err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(disk, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("tmpfs", disk, "tmpfs", 0, "size=600m,mode=700"); err != nil { // the lab unmounts what is below its folder
		t.Fatal(err)
	}
	if err := c.n1.Start(); err != nil {
		t.Fatal(err)
	}
	c.ok(c.n1, "swarm", "init", "--advertise-addr", c.n1.Addr)
	c.create(c.n1, "--name", "web", "--replicas", "2", "busybox", "sleep", "1d")
	before := c.rows(c.n1, "ps", "-q")
	pid := c.n1.PID()

	filler := filepath.Join(disk, "filler")
	file, err := os.Create(filler)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	fill(t, file)
	create := []string{"service", "create", "-d", "--name", "more", "busybox", "sleep", "1d"}
	c.eventually(10*time.Second, "changes are refused in words", func() error {
		if r := c.docker(c.n1, "service", "update", "-d", "--label-add", "x="+time.Now().String(), "web"); !strings.Contains(r.Text(), "are free on the disk of "+disk) {
			return errors.New(r.Text())
		}
		return nil
	})
	c.refused(c.n1, 1, "the cluster's state cannot be changed by this manager: .* free on the disk of", create...)
	if info := c.docker(c.n1, "info").Text(); !strings.Contains(info, "WARNING: the cluster's state cannot be changed by this manager") {
		t.Errorf("docker info:\n%s", info)
	}
	if doctor, code := runShoal(t, "shoal", c.n1, "doctor"); code == 0 || !strings.Contains(doctor, "are free on the disk") {
		t.Errorf("shoal doctor:\n%s", doctor)
	}
	if got := c.rows(c.n1, "service", "ls", "-q"); len(got) != 1 {
		t.Errorf("services: %q", got)
	}
	if err := unix.Kill(pid, 0); err != nil || c.n1.PID() != pid {
		t.Error(fmt.Errorf("the daemon is another process: %w", err))
	}
	if err := c.n1.Stop(); err != nil {
		t.Fatal(err)
	}
	fill(t, file)                        // a log segment that was not needed is gone
	if err := c.n1.Start(); err != nil { // once, a manager that was started like this answered nothing about the cluster
		t.Fatal(err)
	}
	pid = c.n1.PID()
	if got := c.rows(c.n1, "service", "ls", "--format", "{{.Name}}"); len(got) != 1 || got[0] != "web" {
		t.Errorf("services: %q", got)
	}
	c.refused(c.n1, 1, "the cluster's state cannot be changed by this manager: .* free on the disk of", create...)
	if info := c.docker(c.n1, "info").Text(); !strings.Contains(info, "shows the cluster's state as it was last") {
		t.Errorf("docker info:\n%s", info)
	}
	_ = file.Close()
	if err := os.Remove(filler); err != nil {
		t.Fatal(err)
	}
	c.eventually(20*time.Second, "changes are taken again", func() error {
		if r := c.docker(c.n1, create...); r.Code != 0 {
			return errors.New(r.Text())
		}
		return nil
	})
	c.eventually(20*time.Second, "the new service runs", func() error { return c.running("more", 1) })
	after := strings.Join(c.rows(c.n1, "ps", "-q"), " ")
	for _, id := range before {
		if !strings.Contains(after, id) {
			t.Errorf("container %s has not lived through it: %s", id, after)
		}
	}
	if err := unix.Kill(pid, 0); err != nil || c.n1.PID() != pid {
		t.Error(fmt.Errorf("the daemon is another process: %w", err))
	}
	if info := c.docker(c.n1, "info").Text(); strings.Contains(info, "cannot be changed") {
		t.Errorf("docker info:\n%s", info)
	}
}
