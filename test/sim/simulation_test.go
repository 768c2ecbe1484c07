package sim

import (
	"fmt"
	"os"
	"strconv"
	"testing"

	"github.com/shoal-dev/shoal/internal/testcluster"
)

// seedsInTest is how many courses a plain run takes, 0.4 s of CPU time each.
const seedsInTest = 300

// TestClustersSurviveWhatMayHappen takes many random courses of a whole cluster: see testcluster.Simulate. SHOAL_SEEDS is how many, SHOAL_SEED the first.
func TestClustersSurviveWhatMayHappen(t *testing.T) {
	if raceDetector {
		t.Skip("internal/testcluster takes some of them with the race detector")
	}
	first, seeds := number(t, "SHOAL_SEED", 0), number(t, "SHOAL_SEEDS", seedsInTest)
	for seed := first; seed < first+seeds; seed++ {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			testcluster.Simulate(t, seed)
		})
	}
}

func number(t *testing.T, variable string, otherwise uint64) uint64 {
	t.Helper()
	text := os.Getenv(variable)
	if text == "" {
		return otherwise
	}
	n, err := strconv.ParseUint(text, 10, 32)
	if err != nil {
		t.Fatalf("%s=%s: %v", variable, text, err)
	}
	return n
}
