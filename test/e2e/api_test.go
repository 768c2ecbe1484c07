package e2e

import (
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"

	"github.com/shoal-dev/shoal/test/lab"
)

// ask sends a request without a body to a node as a client of an API version does, and returns the answer.
func (c *cluster) ask(n *lab.Node, version, method, path string) (int, string) {
	c.t.Helper()
	client := http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", n.Socket())
	}}}
	defer client.CloseIdleConnections()
	request, err := http.NewRequestWithContext(c.t.Context(), method, "http://docker/v"+version+path, http.NoBody)
	if err != nil {
		c.t.Fatal(err)
	}
	response, err := client.Do(request)
	if err != nil {
		c.t.Fatal(err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		c.t.Fatal(err)
	}
	return response.StatusCode, string(text)
}

// `docker inspect -f '{{.NetworkSettings.IPAddress}}'` printed nothing, and clients of API versions before 1.40 were refused.
func TestClientsOfEveryAPIVersionAreServed(t *testing.T) {
	t.Parallel()
	c := newLab(t, "versions")
	c.loadImages(c.n1)
	c.ok(c.n1, "run", "-d", "--name", "web", "--stop-signal", "KILL", "busybox", "sleep", "1000")
	address := c.ok(c.n1, "inspect", "-f", "{{.NetworkSettings.IPAddress}}", "web")
	if address == "" || address != c.ok(c.n1, "inspect", "-f", "{{.NetworkSettings.Networks.bridge.IPAddress}}", "web") {
		t.Errorf("the address is %q", address)
	}
	for _, version := range []string{"1.24", "1.25", "1.41", "1.44", "1.47", "1.51", "1.56"} {
		status, text := c.ask(c.n1, version, http.MethodGet, "/containers/web/json")
		var shown struct {
			NetworkSettings struct{ IPAddress, MacAddress, Gateway string }
			HostConfig      struct{ NetworkMode, IpcMode string }
		}
		if err := json.Unmarshal([]byte(text), &shown); err != nil || status != http.StatusOK {
			t.Fatalf("%s: %d %s", version, status, text)
		}
		if shown.NetworkSettings.IPAddress != address || shown.NetworkSettings.MacAddress == "" || shown.NetworkSettings.Gateway == "" || shown.HostConfig.NetworkMode != "bridge" {
			t.Errorf("%s: %+v", version, shown)
		}
		for _, path := range []string{"/info", "/version", "/containers/json", "/images/json", "/networks/", "/volumes", "/events?since=1&until=2", "/system/df"} {
			if status, text := c.ask(c.n1, version, http.MethodGet, path); status != http.StatusOK {
				t.Errorf("%s %s: %d %s", version, path, status, text)
			}
		}
		// Containers are in the list of networks for clients that cannot inspect them otherwise.
		if _, text := c.ask(c.n1, version, http.MethodGet, "/networks"); strings.Contains(text, address+"/") != (version == "1.24" || version == "1.25") {
			t.Errorf("%s: %s", version, text)
		}
	}
	for version, want := range map[string]string{
		"1.23": "client version 1.23 is too old. Minimum supported API version is 1.24, please upgrade your client to a newer version",
		"1.99": "client version 1.99 is too new. Maximum supported API version is 1.56",
	} {
		if status, text := c.ask(c.n1, version, http.MethodGet, "/info"); status != http.StatusBadRequest || !strings.Contains(text, want) {
			t.Errorf("%s: %d %s", version, status, text)
		}
	}
	c.ok(c.n1, "network", "create", "n")
	c.refused(c.n1, 1, "is not connected to network n", "network", "disconnect", "--force", "n", "web")
	_, text := c.ask(c.n1, "1.51", http.MethodGet, "/info")
	var info struct {
		FirewallBackend struct{ Driver string }
		NFd             int
		SecurityOptions []string
	}
	if err := json.Unmarshal([]byte(text), &info); err != nil || info.FirewallBackend.Driver != "nftables" || info.NFd == 0 || len(info.SecurityOptions) < 2 {
		t.Errorf("%v: %s", err, text)
	}
	c.fieldsOfTheContainersNetwork()
	c.shapesOfEveryVersion()
	c.unknownFiltersAreRefused()
	c.settingsOfACluster()
}
