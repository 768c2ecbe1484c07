package network

import (
	"bufio"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"github.com/shoal-dev/shoal/internal/dataplane/netnstest"
	"github.com/shoal-dev/shoal/internal/shoal"
)

// With PrivateMounts= in its unit, or a file system mounted over its exec root, a daemon did not find the namespaces that its predecessor had pinned. Overlays, whose VXLAN
// devices lived on with them, could not be made ("create tunnel: file exists"), and running containers lost their networks.
func TestNamespacesThatWerePinnedOutOfSightAreUsedOn(t *testing.T) {
	for _, hidden := range []struct {
		name string
		// hide takes what is pinned in the directory out of sight.
		hide        func(t *testing.T, dir string)
		unreachable bool // nobody has pinned the containers' namespaces
	}{
		{"in another mount namespace", func(t *testing.T, dir string) {
			startInOtherMountNamespace(t)
			unpin(t, dir)
		}, false},
		{"under another file system", func(t *testing.T, dir string) {
			if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=1m"); err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() {
				unpin(t, dir)
				if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
					t.Error(err)
				}
			})
		}, false},
		{"open in a process", func(t *testing.T, dir string) {
			open, err := netns.GetFromPath(filepath.Join(dir, "ov-netid"))
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = open.Close() })
			unpin(t, dir)
		}, true},
	} {
		t.Run(hidden.name, func(t *testing.T) {
			c := newCluster(t, 2)
			c.push(t)
			c.task(t, "web", 0, 1)
			local := c.task(t, "db", 0, 1)
			remote := c.task(t, "web", 1, 2)
			c.push(t)
			n := c.nodes[0]
			dir := n.cfg.ExecRoot + "/netns"
			sandbox := filepath.Join(dir, containerID("db.1.dbtask1")[:12])
			enter := enterer(t, sandbox) // as a container's process is in it
			was := []uint64{inode(t, dir+"/ov-netid"), inode(t, sandbox)}
			if who, _, err := ask(local, "tcp", "10.0.1.14:80"); err != nil || who != "webtask2" {
				t.Fatalf("%s, %v", who, err)
			}
			if err := n.Close(); err != nil {
				t.Fatal(err)
			}
			hidden.hide(t, dir)
			n.start(t)
			c.push(t)
			if problems := n.Problems(); len(problems) > 0 {
				t.Errorf("%q", problems)
			}
			if got := inode(t, dir+"/ov-netid"); got != was[0] {
				t.Errorf("the network has namespace %d, and not %d", got, was[0])
			}
			if got := len(maps.Collect(n.sandboxes.All())); got != 2 && !hidden.unreachable {
				t.Errorf("%d of 2 containers have kept their networks", got)
			}
			if !hidden.unreachable && inode(t, sandbox) != was[1] {
				t.Error("a container's namespace is another")
			}
			for _, addr := range []string{"10.0.1.10:80", "10.0.1.14:80"} {
				if who, _, err := ask(enter, "tcp", addr); err != nil {
					t.Errorf("from the container, %s: %s, %v", addr, who, err)
				}
			}
			if who, _, err := ask(remote, "tcp", "10.0.1.10:80"); err != nil || who != "webtask1" {
				t.Errorf("from the other node: %s, %v", who, err)
			}
		})
	}
}

// A network that was removed while its namespace was out of sight left its VNI to another one, which could not be made.
func TestWhatIsLeftOfARemovedNetworkIsNotInTheWayOfAnother(t *testing.T) {
	c := newCluster(t, 1)
	c.push(t)
	c.task(t, "web", 0, 1)
	n := c.nodes[0]
	dir := n.cfg.ExecRoot + "/netns"
	open, err := netns.GetFromPath(filepath.Join(dir, "ov-netid"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = open.Close() }()
	if err := n.Close(); err != nil {
		t.Fatal(err)
	}
	unpin(t, dir)
	n.start(t)
	other := c.table.Networks["netid"]
	other.ID, other.Spec.Name = "otherid", "other"
	c.table.Networks = map[shoal.NetworkID]shoal.Network{"ingressid": c.table.Networks["ingressid"], other.ID: other}
	c.table.Endpoints = nil
	c.push(t)
	if problems := n.Problems(); len(problems) > 0 {
		t.Errorf("%q", problems)
	}
	if _, err := os.Stat(dir + "/ov-otherid"); err != nil {
		t.Error(err)
	}
}

// enterer enters a namespace that is open for the length of the test.
func enterer(t *testing.T, path string) func(func() error) error {
	t.Helper()
	ns, err := netns.GetFromPath(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = ns.Close() })
	return func(f func() error) error { return netnstest.At(fmt.Sprintf("/proc/self/fd/%d", int(ns)), f) }
}

func inode(t *testing.T, path string) uint64 {
	t.Helper()
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		t.Fatal(err)
	}
	return st.Ino
}

// unpin unmounts what is mounted in the directory.
func unpin(t *testing.T, dir string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Error(err)
	}
	for _, e := range entries {
		if err := unix.Unmount(filepath.Join(dir, e.Name()), unix.MNT_DETACH); err != nil && err != unix.EINVAL {
			t.Error(err)
		}
	}
}

// startInOtherMountNamespace starts a process in a copy of the test's mount namespace, as the processes that look after containers are when a daemon is started
// anew.
func startInOtherMountNamespace(t *testing.T) {
	t.Helper()
	cmd := exec.Command("/bin/sh", "-c", "echo started; read line")
	cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS}
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Skipf("no mount namespaces here: %v", err)
	}
	t.Cleanup(func() {
		_ = in.Close()
		_ = cmd.Wait() // it ends with an error
	})
	if _, err := bufio.NewReader(out).ReadString('\n'); err != nil && err != io.EOF {
		t.Fatal(err)
	}
}

// A VXLAN device that another program has made is in the way of a network, and stays: the network is named, the rest works, and it is tried again.
func TestANetworkThatCannotBeMadeDoesNotKeepTheNodeFromStarting(t *testing.T) {
	c := newCluster(t, 1)
	n := c.nodes[0]
	other := &netlink.Vxlan{LinkAttrs: netlink.LinkAttrs{Name: "vx0"}, VxlanId: 4097, Port: 4789, SrcAddr: n.addr.AsSlice()}
	if err := n.ns.Do(func() error { return netlink.LinkAdd(other) }); err != nil {
		t.Fatal(err)
	}
	if err := n.Close(); err != nil {
		t.Fatal(err)
	}
	n.start(t)
	table := c.table
	table.Version, table.NodeID = 1, shoal.NodeID(n.id)
	_ = n.Apply(t.Context(), table)
	named := slices.ContainsFunc(n.Problems(), func(p string) bool {
		return strings.Contains(p, "overlay network net ") && strings.Contains(p, "file exists")
	})
	if !named {
		t.Errorf("the network is not named: %q", n.Problems())
	}
	if _, err := n.Create(t.Context(), shoal.NetworkSpec{Name: "other"}); err != nil {
		t.Errorf("the rest of the node: %v", err)
	}
	c.run(t)
	if err := n.ns.Do(func() error { return netlink.LinkDel(other) }); err != nil { // it was not touched
		t.Fatal(err)
	}
	within(t, 10*time.Second, "the network works without anybody's doing", func() bool { return len(n.Problems()) == 0 })
}
