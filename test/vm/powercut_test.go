package vm

import (
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// setting is a number from the environment.
func setting(t *testing.T, name string, otherwise int) int {
	t.Helper()
	text := os.Getenv(name)
	if text == "" {
		return otherwise
	}
	number, err := strconv.Atoi(text)
	if err != nil {
		t.Fatal(err)
	}
	return number
}

// churn makes and removes objects of some kinds in the background, until the power is cut. It returns once a step was acknowledged.
func (n *node) churn(round int, random *rand.Rand, kinds ...string) {
	n.Helper()
	prefix := fmt.Sprintf("%st-churn-%d-", n.prefix, round)
	var script strings.Builder
	for _, kind := range kinds {
		const seeds = 1 << 15 // of a shell's RANDOM
		fmt.Fprintf(&script, "setsid nohup /usr/local/lib/vm/churn.sh %s %s %d %s >/dev/null 2>&1 &\n", kind, prefix+kind[:3], random.IntN(seeds),
			strings.Join(n.ledger.Names(kind, n.prefix+"t-churn-"), " "))
	}
	n.run(script.String())
	n.acknowledges(kinds...)
}

// acknowledges waits until the daemon has acknowledged a step more, of one of some kinds.
func (n *node) acknowledges(kinds ...string) {
	n.Helper()
	seen := -1
	n.within(settleLimit, "a step is acknowledged", func() error {
		lines, err := n.machine.Told()
		if err != nil {
			return err
		}
		if seen < 0 {
			seen = len(lines)
		}
		for _, line := range lines[seen:] {
			if f := strings.Fields(line); len(f) > 1 && f[0] == "ack" && slices.Contains(kinds, f[1]) {
				return n.ledger.Enter(lines)
			}
		}
		return fmt.Errorf("none in %d lines", len(lines)-seen)
	})
}

// A power cut took three networks, three volumes and a container that had been acknowledged, and the daemon did not start any more.
func TestNothingAcknowledgedIsLostByPowerCuts(t *testing.T) {
	n := newNode(t, nil)
	cuts, seed := setting(t, "SHOAL_VM_CUTS", 20), uint64(setting(t, "SHOAL_VM_SEED", int(time.Now().Unix())))
	t.Logf("%d power cuts, seed %d (SHOAL_VM_SEED)", cuts, seed)
	random := rand.New(rand.NewPCG(seed, 0))
	all := 0
	for cut := range cuts {
		before := n.ledger.Acks
		n.churn(cut, random, "volume", "network", "secret", "container", "service")
		const longest = 15 * time.Second
		<-time.After(time.Duration(random.Int64N(int64(longest))))
		if err := n.machine.Cut(); err != nil {
			t.Fatal(err)
		}
		up := n.boot()
		whole := n.settled(fmt.Sprintf("all is back after power cut %d", cut+1))
		n.startedOnce()
		all += n.ledger.Acks - before
		t.Logf("cut %2d: %3d acknowledged before it; API after %v, all of it %v later", cut+1, n.ledger.Acks-before, up, whole)
		if t.Failed() {
			return
		}
	}
	t.Logf("%d of %d power cuts survived, %d steps acknowledged, none lost", cuts, cuts, all)
}
