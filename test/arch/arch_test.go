// Package arch holds the house to its plan: which room may import which, and that every package says what it is for.
package arch

import (
	"encoding/json"
	"errors"
	"io"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/shoal-dev/shoal/"

// mayImport is the table of docs/architecture.md. Changing it is a decision, recorded in docs/adr in the same commit.
var mayImport = map[string][]string{
	"shoal":        {},
	"telemetry":    {},
	"store":        {"shoal", "telemetry"},
	"events":       {"shoal"},
	"ca":           {"shoal"},
	"rpc":          {"shoal", "ca"},
	"reconcile":    {"shoal", "telemetry", "store"},
	"orchestrator": {"shoal", "store", "reconcile"},
	"allocator":    {"shoal", "store", "reconcile"},
	"scheduler":    {"shoal", "store", "reconcile"},
	"membership":   {"shoal", "store", "ca", "rpc", "reconcile"},
	"dispatcher":   {"shoal", "store", "rpc"},
	"runtime":      {},
	"image":        {"shoal", "events", "runtime"},
	"volume":       {"shoal", "events"},
	"logs":         {"shoal"},
	"container":    {"shoal", "events", "runtime", "image", "volume", "logs"},
	"dataplane":    {"shoal"},
	"dns":          {"shoal"},
	"network":      {"shoal", "events", "dataplane", "dns"},
	"agent":        {"shoal", "rpc", "image", "volume", "logs", "container", "network"},
	"api":          {"shoal", "store", "events", "membership", "dispatcher", "image", "volume", "logs", "container", "network"},
	"dashboard":    {},
	"cli":          {},
	"daemon": {
		"shoal", "telemetry", "store", "events", "ca", "rpc", "reconcile", "orchestrator", "allocator", "scheduler", "membership",
		"dispatcher", "runtime", "image", "volume", "logs", "container", "dataplane", "dns", "network", "agent", "api",
	},
	"testcluster": {"shoal", "store", "ca", "rpc", "membership", "agent", "daemon"},
}

type pkg struct {
	ImportPath string
	Doc        string
	Imports    []string
	GoFiles    []string
	Name       string
}

func packages(t *testing.T) []pkg {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "go", "list", "-json=ImportPath,Doc,Imports,GoFiles,Name", module+"...").Output()
	if err != nil {
		t.Fatal(err)
	}
	var all []pkg
	for dec := json.NewDecoder(strings.NewReader(string(out))); ; {
		var p pkg
		if err := dec.Decode(&p); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		all = append(all, p)
	}
	return all
}

// room is the room that a package belongs to; empty outside of internal.
func room(path string) string {
	rest, ok := strings.CutPrefix(path, module+"internal/")
	if !ok {
		return ""
	}
	name, _, _ := strings.Cut(rest, "/")
	return name
}

func TestRoomsImportOnlyWhatThePlanAllows(t *testing.T) {
	for _, p := range packages(t) {
		from := room(p.ImportPath)
		if from == "" {
			continue
		}
		allowed, ok := mayImport[from]
		if !ok {
			t.Errorf("%s is in no room of the plan", p.ImportPath)
			continue
		}
		for _, path := range p.Imports {
			to := room(path)
			if to != "" && to != from && !slices.Contains(allowed, to) {
				t.Errorf("%s imports %s: room %s may not import room %s", p.ImportPath, path, from, to)
			}
		}
	}
}

func TestPackagesSayWhatTheyAreFor(t *testing.T) {
	for _, p := range packages(t) {
		if len(p.GoFiles) > 0 && p.Doc == "" {
			t.Errorf("%s has no package comment", p.ImportPath)
		}
	}
}
