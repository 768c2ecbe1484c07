package e2e

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/shoal-dev/shoal/internal/ca"
	"github.com/shoal-dev/shoal/internal/ca/cfssltest"
	"github.com/shoal-dev/shoal/test/lab"
)

// A cluster moves to a root certificate whose key only a certificate authority outside has, lives on it, and moves back.
func TestExternalCA(t *testing.T) {
	t.Parallel()
	c := newLab(t, "extca")
	nobody := "protocol=cfssl,url=https://" + c.client.Addr + ":1/"
	c.ok(c.n3, "swarm", "init", "--advertise-addr", c.n3.Addr, "--external-ca", nobody) // which is asked from the second node on
	c.refused(c.n2, 1, "external CA: sign certificate of node .*: unable to perform certificate signing request: ", "swarm", "join", "--token",
		c.ok(c.n3, "swarm", "join-token", "-q", "worker"), c.n3.Addr+":2377")
	c.ok(c.n3, "swarm", "leave", "--force")
	c.ok(c.n1, "swarm", "init", "--advertise-addr", c.n1.Addr)
	c.ok(c.n2, "swarm", "join", "--token", c.ok(c.n1, "swarm", "join-token", "-q", "worker"), c.n1.Addr+":2377")
	own, err := ca.ParseRoot([]byte(c.ok(c.n1, "swarm", "ca")), nil)
	if err != nil {
		t.Fatal(err)
	}
	company, err := ca.NewRoot()
	if err != nil {
		t.Fatal(err)
	}
	listener, err := c.client.Listen("tcp", c.client.Addr+":8888")
	if err != nil {
		t.Fatal(err)
	}
	authority := cfssltest.New(t, listener, company, own)
	file := filepath.Join(t.TempDir(), "company.pem")
	if err := os.WriteFile(file, company.CertPEM, 0o600); err != nil {
		t.Fatal(err)
	}

	const unreachable = "there must be at least one valid, reachable external CA corresponding to the desired CA certificate"
	c.refused(c.n1, 1, unreachable, "swarm", "ca", "--rotate", "-q", "--ca-cert", file, "--external-ca", nobody)
	c.ok(c.n1, "swarm", "ca", "--rotate", "-q", "--ca-cert", file, "--external-ca", "protocol=cfssl,url="+authority.URL)
	if got := c.ok(c.n1, "swarm", "ca"); got != strings.TrimSpace(string(company.CertPEM)) {
		t.Errorf("after the rotation the root is\n%s", got)
	}
	if got := len(authority.Requests()); got < 2 {
		t.Errorf("the authority was asked %d times for two nodes", got)
	}
	if info := c.ok(c.n1, "info"); !strings.Contains(info, "cfssl: "+authority.URL) {
		t.Errorf("docker info:\n%s", info)
	}

	join := []string{"swarm", "join", "--token", c.ok(c.n1, "swarm", "join-token", "-q", "worker"), c.n1.Addr + ":2377"}
	authority.Refuse("closed on Mondays")
	c.refused(c.n3, 1, "external CA: sign certificate of node .*closed on Mondays", join...)
	authority.Refuse("")
	c.ok(c.n3, join...)
	c.ok(c.n1, "node", "promote", "n3") // its certificate is renewed in the new role
	c.managerStatus(c.n3, "Leader", "", "Reachable")
	c.refused(c.n3, 1, "there must be at least one valid, reachable external CA corresponding to the current CA certificate", "swarm", "update", "--external-ca", nobody)
	c.ok(c.n1, "swarm", "update", "--task-history-limit", "4") // what has nothing to do with it

	for _, n := range []*lab.Node{c.n1, c.n3} { // the managers come back without the root's key
		if err := n.Kill(); err != nil {
			t.Fatal(err)
		}
		if err := n.Start(); err != nil {
			t.Fatal(err)
		}
	}
	leader := c.leader(c.n1)
	c.ok(leader, "swarm", "ca", "--rotate", "-q") // back to a root of the cluster's own
	after := c.ok(leader, "swarm", "ca")
	if after == string(company.CertPEM) {
		t.Error("the root is still the company's")
	}
	for _, n := range []string{"n1", "n2", "n3"} {
		if got := c.ok(leader, "node", "inspect", n, "-f", "{{.Description.TLSInfo.TrustRoot}}"); got != after {
			t.Errorf("%s trusts\n%s", n, got)
		}
	}
}
