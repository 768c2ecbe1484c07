// Command testreport reads the records of `go test -json`: "show FILE" prints what failed and a line per package, "count FILE…"
// prints the closing line of a run. It fails if a test failed.
package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
)

// event is a line of the record; lines that are none are what the toolchain says outside of tests.
type event struct {
	Action     string
	Package    string
	ImportPath string
	Test       string
	Output     string
	Elapsed    float64
}

func main() {
	if len(os.Args) < 3 {
		fmt.Fprintln(os.Stderr, "usage: testreport show FILE | count FILE…")
		os.Exit(2)
	}
	failed := false
	switch os.Args[1] {
	case "show":
		failed = show(os.Args[2])
	case "count":
		failed = count(os.Args[2:])
	}
	if failed {
		os.Exit(1)
	}
}

// placed is the first line of what a test logs, with its place; logOf that of a daemon's log.
var placed, logOf = regexp.MustCompile(`^ +\w+\.go:\d+: `), regexp.MustCompile(`^ +\w+\.go:\d+: log of `)

// said collects what a test says for itself: neither the logs that it shows nor go test's own lines.
type said struct {
	lines []string
	inLog bool
}

func (s *said) add(line string) {
	if strings.HasPrefix(line, "===") || strings.HasPrefix(strings.TrimSpace(line), "---") {
		return
	}
	if placed.MatchString(line) {
		s.inLog = logOf.MatchString(line)
	}
	if !s.inLog {
		s.lines = append(s.lines, line)
	}
}

// last is the end of it.
func (s *said) last(n int) string { return strings.Join(s.lines[max(0, len(s.lines)-n):], "") }

func read(path string, each func(event)) error {
	file, err := os.Open(path)
	if err != nil {
		return err
	}
	defer func() { _ = file.Close() }()
	lines := bufio.NewScanner(file)
	const longest = 16 << 20
	lines.Buffer(nil, longest)
	for lines.Scan() {
		var e event
		if json.Unmarshal(lines.Bytes(), &e) != nil {
			e = event{Action: "noise", Output: lines.Text() + "\n"}
		}
		each(e)
	}
	return lines.Err()
}

func show(path string) (failed bool) {
	output := map[string]*strings.Builder{}
	var packages []string
	tell := func(key string) {
		if b := output[key]; b != nil {
			fmt.Print(b.String())
		}
	}
	err := read(path, func(e event) {
		key := e.Package + e.ImportPath + "\x00" + e.Test
		switch e.Action {
		case "noise":
			fmt.Print(e.Output)
		case "output", "build-output":
			if output[key] == nil {
				output[key] = &strings.Builder{}
			}
			output[key].WriteString(e.Output)
		case "build-fail":
			failed = true
			tell(key)
		case "fail":
			failed = true
			tell(key)
		}
		if e.Test == "" && e.Package != "" && (e.Action == "pass" || e.Action == "fail" || e.Action == "skip") {
			packages = append(packages, fmt.Sprintf("%s\t%s\t%.1fs", e.Action, e.Package, e.Elapsed))
		}
		if e.Action == "pass" {
			delete(output, key)
		}
	})
	if err != nil {
		fmt.Println("testreport:", err)
		return true
	}
	slices.Sort(packages)
	fmt.Println(strings.Join(packages, "\n"))
	return failed
}

// count prints what the failed tests said, after all else because that is what a reader of CI's output sees, and how many tests there were.
func count(paths []string) bool {
	counts := map[string]int{}
	for _, path := range paths {
		tests := map[string]*said{}
		err := read(path, func(e event) {
			if e.Test == "" {
				return
			}
			counts[e.Action]++
			key := e.Package + " " + e.Test
			switch e.Action {
			case "run":
				tests[key] = &said{}
			case "output":
				tests[key].add(e.Output)
			case "fail":
				fmt.Printf("failed: %s\n%s", key, tests[key].last(20))
			}
		})
		if err != nil {
			fmt.Println("testreport:", err)
			counts["fail"]++
		}
	}
	fmt.Printf("%d passed, %d failed, %d skipped\n", counts["pass"], counts["fail"], counts["skip"])
	return counts["fail"] > 0
}
