package e2e

import (
	"bufio"
	"context"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

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

// shape takes from a text what is different in every cluster.
func shape(text string) string {
	for _, r := range []struct{ what, with string }{
		{`SWMTKN-1-\S+`, "TOKEN"},
		{`\b[0-9a-f]{64}\b`, "HASH"},
		{`\b[0-9a-z]{25}\b`, "ID"},
		{`\b[0-9a-f]{12}\b`, "SHORT"},
		{`\b10\.77\.0\.\d+`, "ADDR"},
	} {
		text = regexp.MustCompile(r.what).ReplaceAllString(text, r.with)
	}
	var lines []string
	for line := range strings.Lines(text) {
		if line = strings.TrimRight(line, " \n"); line != "" {
			lines = append(lines, line)
		}
	}
	return strings.Join(lines, "\n")
}

// replay runs the entries that pick chooses and compares exit codes and what goes to stderr. images renames the images that
// the transcripts use.
func (c *cluster) replay(entries []entry, pick func(entry) bool) {
	c.t.Helper()
	images := strings.NewReplacer("bl/srv:1", "nginx", "bl/srv:2", "nginx", "bl/busybox", "busybox", "bl/nosuch", "localhost:1/nosuch")
	nodes := map[string]*lab.Node{"n1": c.n1, "n2": c.n2, "n3": c.n3}
	for _, e := range entries {
		if !pick(e) {
			continue
		}
		ctx, cancel := context.WithTimeout(c.t.Context(), commandLimit)
		got := nodes[e.node].Shell(ctx, images.Replace(e.command))
		cancel()
		if want := shape(images.Replace(e.stderr)); got.Code != e.code || (e.code != 0 && shape(got.Stderr) != want) {
			c.t.Errorf("line %d: %s$ %s\n%s\nexit %d; Docker:\n%s\nexit %d", e.line, e.node, e.command, shape(got.Stderr), got.Code, want, e.code)
		}
	}
}

// replayed is what is not compared of each transcript, and why. Everything else must end and complain as it does with Docker.
func TestCommandsEndAsDockersDo(t *testing.T) {
	for _, tc := range []struct {
		transcript string
		skip       []string
	}{
		{"02-node.txt", []string{
			"n2$ docker node ls",                              // right after a promotion: it takes a moment there and here
			"node rm n3", "node rm --force n3", "swarm leave", // the transcript's cluster had two nodes of this name
		}},
		{"03-service-create.txt", []string{
			"name=cl.1",           // looks for a container on the node where Docker happened to place it
			"network rm net1",     // services that these commands made in other ways are left
			"inspect $(docker ps", // as above
		}},
		{"04-service-ops.txt", []string{"service logs"}}, // names of tasks, in an order that varies
		{"05-network.txt", []string{
			"dup",                                // overlapping subnets are refused here
			"encrypted", "inspect enc", "o2 enc", // refused here until it works
			"--ipv6", "inspect six", // likewise
		}},
		{"06-volume.txt", nil},
		{"07-secret-config.txt", []string{"name=sc.1", "config rm c1 t1"}},
		{"09-errors.txt", []string{"service ps --no-trunc no", "hp"}}, // commands that ran until they were killed made them
	} {
		name, _, _ := strings.Cut(tc.transcript, ".")
		t.Run(name, func(t *testing.T) {
			c := newCluster(t, "cmd"+name[:2])
			c.replay(readTranscript(t, tc.transcript), func(e entry) bool {
				line := e.node + "$ " + e.command
				return !slices.ContainsFunc(tc.skip, func(s string) bool { return strings.Contains(line, s) })
			})
		})
	}
}
