package e2e

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// A power cut once left records of length 0 behind, and the daemon did not start any more. It must start, keep all else, say what it set aside, and
// delete nothing.
func TestADamagedRecordKeepsNothingElseFromStarting(t *testing.T) {
	t.Parallel()
	c := newLab(t, "damaged")
	c.loadImages(c.n1)
	record := map[string]string{} // of what is to be damaged
	for _, name := range []string{"good", "cut"} {
		c.ok(c.n1, "volume", "create", name+"-volume")
		network := c.ok(c.n1, "network", "create", name+"-network")
		container := c.ok(c.n1, "run", "-d", "--name", name, "--restart", "always", "busybox", "sleep", "1d")
		if name == "cut" {
			record["network"] = filepath.Join("network", network+".json")
			record["volume"] = filepath.Join("volumes", name+"-volume", "volume.json")
			record["container"] = filepath.Join("containers", container, "container.json")
		}
	}
	if err := c.n1.Stop(); err != nil {
		t.Fatal(err)
	}
	for _, path := range record {
		if err := os.Truncate(filepath.Join(c.n1.DataRoot(), path), 0); err != nil {
			t.Fatal(err)
		}
	}
	if err := c.n1.Start(); err != nil {
		t.Fatal(err)
	}
	if got := c.ok(c.n1, "ps", "--format", "{{.Names}}"); got != "good" {
		t.Errorf("containers that run: %q", got)
	}
	c.ok(c.n1, "volume", "inspect", "good-volume")
	c.ok(c.n1, "network", "inspect", "good-network")
	c.refused(c.n1, 1, "network cut-network not found", "network", "inspect", "cut-network")
	info := c.docker(c.n1, "info").Text()
	doctor, code := runShoal(t, "shoal", c.n1, "doctor")
	if code == 0 {
		t.Errorf("the doctor finds nothing wrong:\n%s", doctor)
	}
	for kind, path := range record {
		if kind == "container" {
			path = filepath.Dir(path) // it is set aside with its log
		}
		if path = filepath.Join(c.n1.DataRoot(), path); !strings.Contains(info, "WARNING: "+path+" could not be read") || !strings.Contains(doctor, path) {
			t.Errorf("%s, the damaged record of a %s, is not named:\ndocker info:\n%s\nshoal doctor:\n%s", path, kind, info, doctor)
		}
	}
	if _, err := os.Stat(filepath.Join(c.n1.DataRoot(), "volumes", "cut-volume", "_data")); err != nil {
		t.Errorf("the data of the volume: %v", err)
	}
	aside, err := filepath.Glob(filepath.Join(c.n1.DataRoot(), "quarantine", "*", "reason.json"))
	if err != nil || len(aside) != len(record) {
		t.Errorf("set aside: %v, %v", aside, err)
	}
}
