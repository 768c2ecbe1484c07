package netns

import (
	"strings"
	"testing"
)

// What runs in a namespace runs on a thread of its own, where nobody caught a panic.
func TestAFaultInsideANamespaceIsAnError(t *testing.T) {
	node, err := Current()
	if err != nil {
		t.Skip(err)
	}
	defer func() { _ = node.Close() }()
	if err := node.Run(func() error { panic("no link") }); err == nil || !strings.Contains(err.Error(), "no link") {
		t.Errorf("%v", err)
	}
}
