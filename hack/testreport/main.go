// Command testreport reads the records of `go test -json`: "show FILE" prints what failed and a line per package, "count FILE…"
// prints the closing line of a run. It fails if a test failed.
package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
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

func count(paths []string) bool {
	counts := map[string]int{}
	for _, path := range paths {
		err := read(path, func(e event) {
			if e.Test != "" {
				counts[e.Action]++
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
