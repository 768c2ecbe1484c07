package e2e

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/shoal-dev/shoal/test/lab"
)

// recordedDir is where the recorded node kept its data: some of its records name it.
const recordedDir = "/tmp/shoal-recorded"

// TestStateOfAnEarlierVersion starts a node on the data root that an earlier version left: everything is there, looks as it did
// and runs again.
func TestStateOfAnEarlierVersion(t *testing.T) {
	t.Parallel()
	c, n := startRecorded(t)
	recorded := map[string]json.RawMessage{}
	text, err := os.ReadFile("testdata/recorded/inspect.json")
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(text, &recorded); err != nil {
		t.Fatal(err)
	}
	c.eventually(60*time.Second, "all services run", func() error {
		if got := c.rows(n, "service", "ls", "--format", "{{.Name}} {{.Replicas}}"); !reflect.DeepEqual(got, []string{"every 1/1", "rr 1/1", "web 2/2"}) {
			return fmt.Errorf("services: %q", got)
		}
		return nil
	})
	var token string
	if err := json.Unmarshal(recorded["token"], &token); err != nil {
		t.Fatal(err)
	}
	if got := c.ok(n, "swarm", "join-token", "-q", "worker"); got != token {
		t.Errorf("join token is %s, was %s", got, token)
	}
	for kind, changing := range map[string][]string{
		"service": {"Version", "UpdatedAt", "UpdateStatus"},
		"network": {"Containers", "Peers", "Services", "Status"},
		"secret":  nil, "config": nil, "volume": nil, "image": nil,
		"node":      {"Version", "UpdatedAt", "Description", "ManagerStatus", "Status"},
		"container": {"State", "RestartCount", "ResolvConfPath", "NetworkSettings"},
	} {
		t.Run(kind, func(t *testing.T) {
			for _, was := range objectsOf(t, recorded[kind], changing) {
				ref := was["ID"]
				switch kind {
				case "image", "container", "network":
					ref = was["Id"]
				case "volume":
					ref = was["Name"]
				}
				c := cluster{Lab: c.Lab, t: t}
				now := objectsOf(t, json.RawMessage(c.ok(n, kind, "inspect", fmt.Sprint(ref))), changing)[0]
				for field := range was {
					dropFilledIn(now[field], was[field])
					if !reflect.DeepEqual(now[field], was[field]) {
						t.Errorf("%s %v: %s is\n%v\nwas\n%v", kind, ref, field, now[field], was[field])
					}
				}
			}
		})
	}
	for name, want := range map[string]string{
		"keeper": "running lan 10.60.0.80 02:42:0a:3c:00:50", "six": "running lan6 10.61.0.2 ", "idle": "created bridge  ", "done": "exited made  ",
	} {
		c.eventually(20*time.Second, name+" is as it was", func() error {
			got := c.ok(n, "container", "inspect", "-f", "{{.State.Status}} {{range $name, $e := .NetworkSettings.Networks}}{{$name}} {{$e.IPAddress}} {{$e.MacAddress}}{{end}}", name)
			if !strings.HasPrefix(got, strings.TrimSpace(want)) {
				return fmt.Errorf("%q, want %q", got, want)
			}
			return nil
		})
	}
	for _, url := range []string{"http://10.77.0.11:8080/", "http://10.77.0.11:9090/"} {
		c.eventually(10*time.Second, url+" answers", func() error {
			resp, err := httpFrom(c.client).Get(url)
			if err != nil {
				return err
			}
			defer func() { _ = resp.Body.Close() }()
			if body, err := io.ReadAll(resp.Body); err != nil || resp.StatusCode != http.StatusOK || string(body) != "recorded\n" {
				return fmt.Errorf("%s %q %w", resp.Status, body, err)
			}
			return nil
		})
	}
	c.ok(n, "service", "update", "-q", "--env-add", "NEW=1", "web")
}

// filledIn is what inspect shows of containers and images today where the earlier version showed nothing, or an empty value: what has been in force all along.
var filledIn = []string{"CgroupnsMode", "Init", "IpcMode", "MacAddress", "MaskedPaths", "MemorySwap", "ReadonlyPaths", "Runtime", "ShmSize", "User", "WorkingDir"}

// dropFilledIn removes that from what is compared, where the earlier version had nothing to compare it with, and so it does with fields that are empty now
// and were left out.
func dropFilledIn(now, was any) {
	newer, _ := now.(map[string]any)
	older, _ := was.(map[string]any)
	for field, value := range newer {
		before, shown := older[field]
		empty := before == nil || reflect.ValueOf(before).IsZero()
		if !shown && value == nil || empty && slices.Contains(filledIn, field) {
			delete(newer, field)
			delete(older, field)
		}
	}
}

// startRecorded makes a lab of one node that starts on the recorded data root.
func startRecorded(t *testing.T) (*cluster, *lab.Node) {
	t.Helper()
	l, err := lab.New("rec", recordedDir, binary(t))
	if err != nil {
		t.Fatal(err)
	}
	c := &cluster{Lab: l, t: t}
	t.Cleanup(func() {
		if t.Failed() {
			c.dump()
		}
		if err := l.Close(); err != nil {
			t.Errorf("tear down: %v", err)
		}
	})
	n, err := l.AddNode("n1", 11)
	if err != nil {
		t.Fatal(err)
	}
	if c.client, err = l.AddHost("client", 100); err != nil {
		t.Fatal(err)
	}
	if err := n.Stop(); err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(n.DataRoot()); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(n.DataRoot(), 0o711); err != nil {
		t.Fatal(err)
	}
	archive := filepath.Join("testdata", "recorded", "data-root.tar.gz")
	if out, err := exec.CommandContext(t.Context(), "tar", "--sparse", "--numeric-owner", "--xattrs", "-C", n.DataRoot(), "-xzf", archive).CombinedOutput(); err != nil {
		t.Fatalf("unpack %s: %v\n%s", archive, err, out)
	}
	if err := n.Start(); err != nil {
		t.Fatal(err)
	}
	return c, n
}

// objectsOf is a list of objects, without the fields that may change while nothing is lost.
func objectsOf(t *testing.T, text json.RawMessage, changing []string) []map[string]any {
	t.Helper()
	var objects []map[string]any
	if err := json.Unmarshal(text, &objects); err != nil {
		t.Fatalf("%v:\n%s", err, text)
	}
	for _, o := range objects {
		for _, field := range changing {
			delete(o, field)
		}
		if labels, ok := o["Labels"]; ok && labels == nil {
			o["Labels"] = map[string]any{} // as Docker shows a network once the node has a task on it
		}
	}
	return objects
}
