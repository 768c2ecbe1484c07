package e2e

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// An overlay's VNI is taken by a device that is not the daemon's: the daemon did not start any more ("create tunnel: file exists"). It must start, work, name the
// network, and have it as soon as it can.
func TestAnOverlayThatCannotBeMadeKeepsNothingElseFromStarting(t *testing.T) {
	t.Parallel()
	c := newLab(t, "broken")
	c.loadImages(c.n1)
	c.ok(c.n1, "swarm", "init", "--advertise-addr", c.n1.Addr)
	broken := c.ok(c.n1, "network", "create", "-d", "overlay", "--attachable", "broken")
	c.ok(c.n1, "run", "-d", "--name", "on-broken", "--network", "broken", "--restart", "always", "busybox", "sleep", "1d")
	c.ok(c.n1, "run", "-d", "--name", "plain", "--restart", "always", "-p", "8099:80", "nginx")
	c.ok(c.n1, "service", "create", "-q", "--name", "web", "-p", "8080:80", "nginx")
	vni := c.ok(c.n1, "network", "inspect", "broken", "--format", `{{index .Options "com.docker.network.driver.overlay.vxlanid_list"}}`)
	if err := c.n1.Kill(); err != nil {
		t.Fatal(err)
	}
	if err := unix.Unmount(filepath.Join(c.n1.ExecRoot(), "netns", "ov-"+broken), unix.MNT_DETACH); err != nil {
		t.Fatal(err)
	}
	c.eventually(10*time.Second, "another program has the VNI", func() error { // the kernel takes a moment to end the namespace
		out, err := c.n1.Command(t.Context(), "ip", "link", "add", "other", "type", "vxlan", "id", vni, "dstport", "4789", "local", c.n1.Addr).CombinedOutput()
		if err != nil {
			return fmt.Errorf("%w: %s", err, out)
		}
		return nil
	})
	if err := c.n1.Start(); err != nil {
		t.Fatal(err)
	}
	for _, port := range []string{"8080", "8099"} {
		c.eventually(20*time.Second, "port "+port+" answers", func() error {
			_, err := c.get("http://" + c.n1.Addr + ":" + port)
			return err
		})
	}
	c.eventually(20*time.Second, "docker info and the doctor name the network", func() error {
		info := c.docker(c.n1, "info").Text()
		doctor, _ := runShoal(t, "shoal", c.n1, "doctor")
		if want := "overlay network broken "; !strings.Contains(info, "WARNING: "+want) || !strings.Contains(doctor, want) {
			return fmt.Errorf("%s\n%s", info, doctor)
		}
		return nil
	})
	c.inside(c.n1.Namespace(), "ip", "link", "del", "other") // it was not touched
	c.eventually(60*time.Second, "the network works again by itself", func() error {
		if info := c.docker(c.n1, "info").Text(); strings.Contains(info, "overlay network broken ") {
			return fmt.Errorf("%s", info)
		}
		return nil
	})
	c.ok(c.n1, "run", "--rm", "--network", "broken", "busybox", "true")
}
