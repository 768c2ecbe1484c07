package network

import (
	"context"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/shoal-dev/shoal/internal/dataplane/netnstest"
	"github.com/shoal-dev/shoal/internal/shoal"
)

// Two daemons in one network namespace removed each other's bridges and replaced each other's table every second, so that neither had a network that worked.
func TestTwoDaemonsShareANamespace(t *testing.T) {
	ns, ctx := netnstest.New(t), t.Context()
	start := func(root string) *Networks {
		t.Helper()
		var n *Networks
		err := ns.Do(func() (err error) {
			n, err = New(Config{Log: discard(), DataRoot: root + "/data", ExecRoot: root + "/exec", Quarantine: newQuarantine(root), ResolvConf: root + "/none"})
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	roots := []string{t.TempDir(), t.TempDir()}
	all := []*Networks{start(roots[0]), start(roots[1])}
	for i, id := range []string{"a", "b"} {
		if _, err := all[i].Create(ctx, shoal.NetworkSpec{Name: "net"}); err != nil {
			t.Fatal(err)
		}
		spec := shoal.SandboxSpec{ContainerID: strings.Repeat(id, 64), Mode: "bridge", Ports: []shoal.PortBinding{{Protocol: shoal.TCP, Target: 80, HostPort: uint16(8000 + i)}}}
		if _, err := all[i].Up(ctx, spec); err != nil {
			t.Fatal(err)
		}
	}
	check := func(when string) {
		t.Helper()
		for i, n := range all {
			if problems := n.Problems(); len(problems) > 0 {
				t.Errorf("%s: problems of daemon %d: %q", when, i, problems)
			}
			if parts := n.plane.Drift(true); len(parts) > 0 {
				t.Errorf("%s: another daemon has changed what daemon %d has made: %q", when, i, parts)
			}
		}
	}
	check("both run")
	links := func() string {
		t.Helper()
		var out []byte
		_ = ns.Do(func() (err error) {
			out, err = exec.Command("ip", "-o", "link").CombinedOutput()
			return err
		})
		return string(out)
	}
	spare := all[1].owns.bridgeName()
	if got := links(); !strings.Contains(got, " docker0:") || !strings.Contains(got, " "+spare+":") || spare == "docker0" {
		t.Errorf("default bridges, of which one is %s: %s", spare, got)
	}
	// Each comes back as what it was, also if the other is away.
	for i := range all {
		if err := all[i].Close(); err != nil {
			t.Error(err)
		}
	}
	all[1] = start(roots[1])
	all[0] = start(roots[0])
	check("both were started anew")
	if all[0].owns.owner != "shoal" || all[1].owns.bridgeName() != spare {
		t.Errorf("owners after a restart: %q %q", all[0].owns.owner, all[1].owns.owner)
	}
	for i, id := range []string{"a", "b"} {
		if err := all[i].Down(ctx, strings.Repeat(id, 64)); err != nil {
			t.Error(err)
		}
		if err := all[i].Remove(ctx, "net"); err != nil {
			t.Error(err)
		}
	}
	check("what each had made is removed")
	for _, n := range all {
		if err := n.Close(); err != nil {
			t.Error(err)
		}
	}
	// What nothing uses of one more daemon goes with it: nobody else would ever remove it, and its bridges would keep address pools from the others.
	if got := links(); !strings.Contains(got, " docker0:") || strings.Contains(got, " "+spare+":") {
		t.Errorf("links after both have stopped: %s", got)
	}
}

// A node that was upgraded while it ran has the table and the bridges of the version before.
func TestAnOlderVersionsOwnerIsKept(t *testing.T) {
	ns, root := netnstest.New(t), t.TempDir()
	if err := exec.CommandContext(context.WithoutCancel(t.Context()), "mkdir", "-p", filepath.Join(root, "network")).Run(); err != nil {
		t.Fatal(err)
	}
	err := ns.Do(func() error {
		for _, c := range [][]string{{"link", "add", "docker0", "type", "bridge"}, {"link", "set", "docker0", "alias", "shoal"}} {
			if err := exec.Command("ip", c...).Run(); err != nil {
				return err
			}
		}
		for _, dir := range []string{root, t.TempDir()} {
			o, err := findOwner(dir)
			if err != nil {
				return err
			}
			o.close()
			if own := o.owner == "shoal"; own != (dir == root) {
				t.Errorf("owner of %s: %s", dir, o.owner)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}
