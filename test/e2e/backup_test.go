package e2e

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/shoal-dev/shoal/test/lab"
)

// A backup brings a cluster back whose only manager has lost its disk, without touching the tasks; and on a machine with another address when all else is gone.
func TestBackupAndRestore(t *testing.T) {
	c := newCluster(t, "backup")
	dir := t.TempDir()
	file, passphrase, wrong := filepath.Join(dir, "cluster.backup"), filepath.Join(dir, "passphrase"), filepath.Join(dir, "wrong")
	for path, text := range map[string]string{passphrase: "correct horse\n", wrong: "battery staple\n", filepath.Join(dir, "data"): "hush"} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	c.ok(c.n1, "secret", "create", "key", filepath.Join(dir, "data"))
	c.ok(c.n1, "network", "create", "-d", "overlay", "back")
	c.ok(c.n1, "node", "update", "--label-add", "disk=fast", "n1")
	c.ok(c.n1, "service", "create", "-q", "--name", "web", "-p", "8080:80", "--network", "back", "--secret", "key", "--replicas", "3", "nginx")
	facts := func(n *lab.Node) string {
		return c.ok(n, "service", "inspect", "web", "--format", "{{json .Endpoint}}{{json .Spec}}") +
			c.ok(n, "network", "inspect", "back", "--format", "{{.ID}}{{json .IPAM.Config}}") +
			c.ok(n, "swarm", "ca") + c.ok(n, "swarm", "join-token", "-q", "worker") + c.ok(n, "node", "inspect", "self", "--format", "{{.ID}}{{.Spec.Labels}}")
	}
	was := facts(c.n1)
	if out, code := runShoal(t, "shoal", c.n1, "backup", "--passphrase-file", passphrase, file); code != 0 {
		t.Fatalf("backup: %s", out)
	}
	sealed, err := os.ReadFile(file)
	if err != nil || strings.Contains(string(sealed), "hush") || strings.Contains(string(sealed), "nginx") {
		t.Errorf("the file can be read without the passphrase (%v)", err)
	}
	if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the file's mode: %v, %v", info, err)
	}
	restore := func(n *lab.Node, with, from string) (string, int) {
		return runShoal(t, "shoal", n, "restore", "--passphrase-file", with, "--advertise-addr", n.Addr, from)
	}
	if out, code := restore(c.n1, passphrase, file); code == 0 || !strings.Contains(out, "This node is already part of a swarm") {
		t.Errorf("restore on a node of a swarm: %s", out)
	}
	before := map[*lab.Node][]string{}
	for _, n := range c.Nodes() {
		before[n] = c.rows(n, "ps", "-q", "--no-trunc")
	}
	if err := errors.Join(c.n1.Kill(), os.RemoveAll(filepath.Join(c.n1.DataRoot(), "swarm")), c.n1.Start()); err != nil {
		t.Fatal(err)
	}
	if out, code := restore(c.n1, wrong, file); code == 0 || !strings.Contains(out, "the passphrase is wrong") {
		t.Errorf("restore with a wrong passphrase: %s", out)
	}
	damaged := filepath.Join(dir, "damaged")
	if err := os.WriteFile(damaged, sealed[:len(sealed)-1], 0o600); err != nil {
		t.Fatal(err)
	}
	if out, code := restore(c.n1, passphrase, damaged); code == 0 || !strings.Contains(out, "damaged") {
		t.Errorf("restore of a damaged file: %s", out)
	}
	if out, code := restore(c.n1, passphrase, file); code != 0 {
		t.Fatalf("restore: %s", out)
	}
	c.eventually(30*time.Second, "all nodes are ready", c.allReady)
	c.eventually(30*time.Second, "three tasks", func() error { return c.running("web", 3) })
	if now := facts(c.n1); now != was {
		t.Errorf("the cluster was\n%s\nand is\n%s", was, now)
	}
	for n, ids := range before {
		for now, i := c.rows(n, "ps", "-q", "--no-trunc"), 0; i < len(ids); i++ {
			if !slices.Contains(now, ids[i]) {
				t.Errorf("container %s on %s has not lived through it: %q", ids[i], n.Name, now)
			}
		}
	}
	c.ok(c.n1, "node", "update", "--label-add", "a=b", "n2") // versions begin anew
	c.ok(c.n1, "service", "scale", "-d", "web=4")

	for _, n := range c.Nodes() {
		if err := errors.Join(n.Kill(), n.KillShims()); err != nil {
			t.Fatal(err)
		}
	}
	other, err := c.AddNode("n4", 14)
	if err != nil {
		t.Fatal(err)
	}
	c.loadImages(other)
	if out, code := restore(other, passphrase, file); code != 0 {
		t.Fatalf("restore elsewhere: %s", out)
	}
	c.eventually(60*time.Second, "the stack is served at another address", func() error {
		if _, err := c.get(fmt.Sprintf("http://%s:8080/", other.Addr)); err != nil {
			return err
		}
		if got := c.rows(other, "ps", "-q"); len(got) != 3 {
			return fmt.Errorf("containers %q", got)
		}
		return nil
	})
	id, _, _ := strings.Cut(c.ok(other, "ps", "-q"), "\n")
	if got := c.ok(other, "exec", id, "cat", "/run/secrets/key"); got != "hush" {
		t.Errorf("the secret is %q", got)
	}
	if now := facts(other); now != was {
		t.Errorf("the cluster was\n%s\nand is\n%s", was, now)
	}
}

// A manager whose copy of the state is damaged keeps what is left of it and gets another copy from the others, by itself.
func TestADamagedManagerRejoins(t *testing.T) {
	c := newManagers(t, "rejoin")
	c.ok(c.n1, "service", "create", "-q", "--name", "web", "--replicas", "3", "busybox", "sleep", "1d")
	before := c.rows(c.n3, "ps", "-q")
	if err := c.n3.Kill(); err != nil {
		t.Fatal(err)
	}
	logs, err := filepath.Glob(filepath.Join(c.n3.DataRoot(), "swarm", "store", "etcd", "member", "wal", "*.wal"))
	if err != nil || len(logs) == 0 {
		t.Fatal(logs, err)
	}
	file, err := os.OpenFile(logs[len(logs)-1], os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := file.WriteAt([]byte(strings.Repeat("damage", 100)), 700); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(file.Close(), c.n3.Start()); err != nil {
		t.Fatal(err)
	}
	for _, n := range []*lab.Node{c.n1, c.n3} {
		c.managerStatus(n, "Leader", "Reachable", "Reachable")
	}
	c.ok(c.n3, "service", "scale", "-d", "web=4")
	if info := c.docker(c.n3, "info").Text(); !strings.Contains(info, "could not be read and was set aside") {
		t.Errorf("docker info:\n%s", info)
	}
	if after := c.rows(c.n3, "ps", "-q"); !slices.Contains(after, before[0]) {
		t.Errorf("containers on n3: %q, before %q", after, before)
	}
}
