package e2e

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/shoal-dev/shoal/test/lab"
)

// entry is one command of a transcript of real Docker: what was typed where, what it printed and how it ended.
type entry struct {
	node, command  string
	stdout, stderr string
	code           int
	line           int
}

var (
	promptLine = regexp.MustCompile(`^(n[1-3])\$ (.*docker .*)$`)
	exitLine   = regexp.MustCompile(`^--- exit (\d+)  \(`)
)

// readTranscript reads a transcript as test/e2e/testdata/transcripts has them.
func readTranscript(t *testing.T, name string) []entry {
	t.Helper()
	file, err := os.Open(filepath.Join("testdata", "transcripts", name))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = file.Close() }()
	var all []entry
	var e *entry
	var into *string
	lines := bufio.NewScanner(file)
	lines.Buffer(nil, 1<<20)
	for n := 1; lines.Scan(); n++ {
		text := lines.Text()
		if m := promptLine.FindStringSubmatch(text); m != nil {
			e, into = &entry{node: m[1], command: m[2], line: n}, nil
			continue
		}
		if e == nil {
			continue
		}
		switch {
		case text == "--- stdout":
			into = &e.stdout
		case text == "--- stderr":
			into = &e.stderr
		case exitLine.MatchString(text):
			e.code, _ = strconv.Atoi(exitLine.FindStringSubmatch(text)[1]) // digits, by the pattern
			all = append(all, *e)
			e, into = nil, nil
		case strings.HasPrefix(text, "--- exit"):
			e, into = nil, nil // still running when it was killed: nothing to compare
		case into != nil:
			*into += text + "\n"
		}
	}
	if err := lines.Err(); err != nil {
		t.Fatal(err)
	}
	return all
}

// copyFile puts a file where the transcripts' commands look for it.
func (c *cluster) copyFile(name string) {
	c.t.Helper()
	data, err := os.ReadFile(name)
	if err != nil {
		c.t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(c.Dir, filepath.Base(name)), data, 0o600); err != nil {
		c.t.Fatal(err)
	}
}

// replay runs the entries that pick chooses and compares exit codes and what goes to stderr. images renames the images that
// the transcripts use.
func (c *cluster) replay(entries []entry, pick func(entry) bool) {
	c.t.Helper()
	images := strings.NewReplacer("bl/nosuch", "localhost:1/nosuch")
	for _, n := range c.Nodes() {
		for from, to := range map[string]string{"busybox": "bl/busybox", "srv:1": "bl/srv:1", "srv:2": "bl/srv:2"} {
			c.ok(n, "tag", from, to)
		}
	}
	nodes := map[string]*lab.Node{"n1": c.n1, "n2": c.n2, "n3": c.n3}
	for _, e := range entries {
		if !pick(e) {
			continue
		}
		if diff := c.compare(nodes[e.node], e, images); diff != "" {
			c.t.Errorf("line %d: %s$ %s\n%s", e.line, e.node, e.command, diff)
		}
	}
}

// asks tells the commands that only look: what they show may take a moment to become so, and they may be run again.
var asks = regexp.MustCompile(`^docker ((service|node|stack|network|volume|secret|config) )?(ls|ps|inspect|services)\b`)

// compare runs the entry's command and says in what it does not end as Docker's did.
func (c *cluster) compare(n *lab.Node, e entry, images *strings.Replacer) (diff string) {
	c.t.Helper()
	deadline := time.Now().Add(10 * time.Second)
	for {
		ctx, cancel := context.WithTimeout(c.t.Context(), commandLimit)
		got := n.Shell(ctx, images.Replace(e.command))
		cancel()
		want := shape(images.Replace(e.stderr))
		switch {
		case got.Code != e.code || (e.code != 0 && shape(got.Stderr) != want):
			diff = fmt.Sprintf("%s\nexit %d; Docker:\n%s\nexit %d", shape(got.Stderr), got.Code, want, e.code)
		default:
			diff = strings.Join(differences(outline(e.stdout), outline(got.Stdout)), "\n")
		}
		if diff == "" || !asks.MatchString(e.command) || time.Now().After(deadline) {
			return diff
		}
		<-time.After(100 * time.Millisecond)
	}
}

// replayed is what is not compared of each transcript, and why. Everything else must end and complain as it does with Docker.
func TestCommandsEndAsDockersDo(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		transcript string
		skip       []string
	}{
		{"02-node.txt", []string{
			"n2$ docker node ls",                              // right after a promotion: it takes a moment there and here
			"node rm n3", "node rm --force n3", "swarm leave", // the transcript's cluster had two nodes of this name
		}},
		{"03-service-create.txt", []string{
			"webtty", "service ls", // recorded on a terminal; what it made is in the list
			"service ps web",      // a task that Docker had first placed on a node that could not run it
			"name=cl.1",           // looks for a container on the node where Docker happened to place it
			"network rm net1",     // services that these commands made in other ways are left
			"inspect $(docker ps", // as above
			"$ docker ps",         // likewise
		}},
		{"04-service-ops.txt", []string{
			"service logs",      // names of tasks, in an order that varies
			"{{json .Endpoint}", // Docker keeps showing the mode of a service that once had ports
		}},
		{"05-network.txt", []string{
			"dup",                           // overlapping subnets are refused here
			"inspect six",                   // and a network with nothing but an IPv6 subnet is given an IPv4 one
			".Spec.TaskTemplate.Networks}}", // the CLI puts networks in the order of their IDs, which are random
		}},
		{"06-volume.txt", []string{
			"docker volume ls\n", "volume ls -q", "--cluster", // earlier transcripts had left volumes behind
			"--scope multi", // a volume of the cluster is refused here; Docker's is never made
		}},
		{"07-secret-config.txt", []string{"name=sc.1", "config rm c1 t1"}},
		{"08-stack.txt", []string{
			"docker volume ls", // as above
			"stack config",     // names the directory
		}},
		{"09-errors.txt", []string{
			"service ps --no-trunc no", "hp", // commands that ran until they were killed made them
			"service ls", // likewise, and Docker's tasks were still starting
		}},
	} {
		name, _, _ := strings.Cut(tc.transcript, ".")
		t.Run(name, func(t *testing.T) {
			c := newCluster(t, "cmd"+name[:2])
			if tc.transcript == "03-service-create.txt" {
				c.ok(c.n1, "node", "update", "--label-add", "disk=ssd", "n2")
			}
			c.copyFile("testdata/st.yml")
			c.copyFile("testdata/st.cf")
			c.replay(readTranscript(t, tc.transcript), func(e entry) bool {
				line := e.node + "$ " + e.command + "\n"
				return !slices.ContainsFunc(tc.skip, func(s string) bool { return strings.Contains(line, s) })
			})
		})
	}
}
