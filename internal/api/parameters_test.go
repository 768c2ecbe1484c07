package api

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/shoal-dev/shoal/internal/api/server/servertest"
)

// testdata/parameters.txt says of each query parameter of API 1.56 what becomes of it: "METHOD path name fate". The fate is honoured or refused, with the test that
// shows it, or without (effect), with the reason. A parameter that nobody reads cannot be honoured.
func TestNoParameterIsSilentlyIgnored(t *testing.T) {
	table, err := os.ReadFile("testdata/parameters.txt")
	if err != nil {
		t.Fatal(err)
	}
	var code strings.Builder
	for _, dir := range []string{"engine", "cluster", "server"} {
		files, err := filepath.Glob(dir + "/*.go")
		if err != nil {
			t.Fatal(err)
		}
		for _, file := range files {
			if strings.HasSuffix(file, "_test.go") {
				continue
			}
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			code.Write(text)
		}
	}
	seen, tests := map[string]bool{}, map[string]bool{}
	for line := range strings.Lines(string(table)) {
		fields := strings.SplitN(strings.TrimSpace(line), " ", 5)
		if len(fields) != 5 {
			t.Fatalf("%q is no parameter with its fate", line)
		}
		key, name := strings.Join(fields[:3], " "), fields[2]
		if seen[key] {
			t.Errorf("%s is there twice", key)
		}
		seen[key] = true
		switch fields[3] {
		case "honoured", "refused":
			tests[fields[4]] = true
			if !strings.Contains(code.String(), `"`+name+`"`) {
				t.Errorf("%s: nobody reads it", key)
			}
		case "without":
		default:
			t.Errorf("%s: what is %q?", key, fields[3])
		}
	}
	for test := range tests {
		servertest.CheckTest(t, test)
	}
	if len(seen) < 177 {
		t.Errorf("only %d parameters", len(seen))
	}
}
