package arch

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// Pages that name a file or folder of the tree which is no longer there send their readers astray. The decisions in docs/adr tell of their time and are
// left as they are.
func TestPagesNameFilesThatExist(t *testing.T) {
	pages, err := filepath.Glob("../../docs/*.md")
	if err != nil || len(pages) == 0 {
		t.Fatal("no pages", err)
	}
	inTree := regexp.MustCompile("`((?:internal|cmd|test|hack|packaging)/[\\w./-]+)`|\\]\\(([\\w./-]+\\.md)(?:#[\\w-]+)?\\)")
	found := 0
	for _, page := range append(pages, "../../README.md", "../../CONTRIBUTING.md") {
		text, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range inTree.FindAllStringSubmatch(string(text), -1) {
			path := filepath.Join("../..", m[1])
			if m[2] != "" {
				path = filepath.Join(filepath.Dir(page), m[2])
			}
			found++
			if _, err := os.Stat(strings.TrimSuffix(path, "/")); err != nil {
				t.Errorf("%s names %s: %v", page, m[1]+m[2], err)
			}
		}
	}
	if found < 50 {
		t.Errorf("only %d paths were found: is the pattern still right?", found)
	}
}
