package e2e

import (
	"strings"
	"testing"
)

func TestTry(t *testing.T) {
	for _, name := range []string{"02-node.txt", "03-service-create.txt", "04-service-ops.txt", "06-volume.txt", "07-secret-config.txt", "08-stack.txt"} {
		t.Run(name[:2], func(t *testing.T) {
			c := newCluster(t, "try"+name[:2])
			c.replay(readTranscript(t, name), func(e entry) bool { return !strings.Contains(e.command, "-c st") })
		})
	}
}
