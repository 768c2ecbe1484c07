package vm

import (
	"fmt"
	"math/rand/v2"
	"os"
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

// churn makes and removes objects of all kinds in the background, until the power is cut.
func (n *node) churn(round int, random *rand.Rand) {
	n.Helper()
	var script strings.Builder
	for _, kind := range []string{"volume", "network", "secret", "container"} {
		const seeds = 1 << 15 // of a shell's RANDOM
		fmt.Fprintf(&script, "setsid nohup /usr/local/lib/vm/churn.sh %s t-%d-%s %d %s >/dev/null 2>&1 &\n", kind, round, kind[:1], random.IntN(seeds), strings.Join(n.ledger.Names(kind), " "))
	}
	n.run(script.String())
}

// A power cut took three networks, three volumes and a container that had been acknowledged, and the daemon did not start any more.
func TestNothingAcknowledgedIsLostByPowerCuts(t *testing.T) {
	n := newNode(t)
	cuts, seed := setting(t, "SHOAL_VM_CUTS", 20), uint64(setting(t, "SHOAL_VM_SEED", int(time.Now().Unix())))
	t.Logf("%d power cuts, seed %d (SHOAL_VM_SEED)", cuts, seed)
	random := rand.New(rand.NewPCG(seed, 0))
	const shortest, longest = 2 * time.Second, 25 * time.Second
	for cut := range cuts {
		before := n.ledger.Acks
		n.churn(cut, random)
		<-time.After(shortest + rand.N(longest-shortest))
		if err := n.machine.Cut(); err != nil {
			t.Fatal(err)
		}
		up := n.boot()
		whole := n.settled(fmt.Sprintf("all is back after power cut %d", cut+1))
		aside, err := n.try("ls /var/lib/shoal/quarantine")
		if err == nil && aside != "" {
			t.Errorf("set aside: %s", aside)
		}
		t.Logf("cut %2d: %3d acknowledged before it; API after %v, all of it %v later; %s", cut+1, n.ledger.Acks-before, up, whole, strings.ReplaceAll(n.starts(), "\n", " "))
	}
	t.Logf("%d of %d power cuts survived, %d steps acknowledged, none lost", cuts, cuts, n.ledger.Acks)
}
