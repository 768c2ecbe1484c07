package e2e

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/shoal-dev/shoal/test/lab"
)

// A manager that starts on another address, as after a new lease, once could not be reached by the others any more.
func TestAManagersAddressChanges(t *testing.T) {
	c := newManagers(t, "readdr")
	c.ok(c.n1, "service", "create", "-q", "--name", "web", "-p", "8080:80", "--replicas", "3", "nginx")
	before := c.rows(c.n3, "ps", "-q")
	if err := c.n3.Stop(); err != nil {
		t.Fatal(err)
	}
	const now = "10.77.0.33"
	for _, args := range [][]string{{"addr", "add", now + "/24", "dev", "eth0"}, {"addr", "del", c.n3.Addr + "/24", "dev", "eth0"}, {"addr", "replace", now + "/24", "dev", "eth0"}} {
		if out, err := c.n3.Command(t.Context(), "ip", args...).CombinedOutput(); err != nil {
			t.Fatalf("ip %v: %v: %s", args, err, out)
		}
	}
	c.n3.Addr = now
	if err := c.n3.Start(); err != nil {
		t.Fatal(err)
	}
	for _, n := range []*lab.Node{c.n1, c.n3} {
		c.managerStatus(n, "Leader", "Reachable", "Reachable")
	}
	c.eventually(20*time.Second, "n3 is known at its new address", func() error {
		if got := c.ok(c.n1, "node", "inspect", "n3", "--format", "{{.ManagerStatus.Addr}} {{.Status.Addr}}"); got != now+":2377 "+now {
			return errors.New(got)
		}
		return nil
	})
	if err := c.n2.Kill(); err != nil { // n3 is needed for a majority now
		t.Fatal(err)
	}
	c.eventually(30*time.Second, "changes are possible", func() error {
		if r := c.docker(c.n1, "service", "update", "-d", "--label-add", "a="+time.Now().String(), "web"); r.Code != 0 {
			return errors.New(r.Text())
		}
		return nil
	})
	c.eventually(30*time.Second, "the port answers at the new address", func() error {
		_, err := c.get("http://" + now + ":8080/")
		return err
	})
	if after := strings.Join(c.rows(c.n3, "ps", "-q"), " "); !strings.Contains(after, before[0]) {
		t.Errorf("containers on n3: %q, before %q", after, before)
	}
}
