package e2e

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/shoal-dev/shoal/internal/shoal"
	"github.com/shoal-dev/shoal/test/lab"
	"github.com/shoal-dev/shoal/test/load"
)

// nightly is whether tests that go on for long do so: see `make nightly`.
var nightly = os.Getenv("SHOAL_NIGHTLY") != ""

// chaosSeed is where a run's random choices come from: the environment, to repeat a run, or the clock.
func chaosSeed(t *testing.T) uint64 {
	t.Helper()
	seed := uint64(time.Now().UnixNano()) // #nosec G115 -- any number will do
	if s := os.Getenv("SHOAL_CHAOS_SEED"); s != "" {
		var err error
		if seed, err = strconv.ParseUint(s, 10, 64); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("SHOAL_CHAOS_SEED=%d", seed)
	return seed
}

// chaos kills daemons of a cluster of managers, one at a time, while an operator goes on working.
type chaos struct {
	*cluster
	random *rand.Rand // of the operator
	until  time.Time

	mu    sync.Mutex
	away  *lab.Node // whose daemon is killed or starting
	slow  time.Time // when a daemon was last back later than its node counts as Down
	kills int
}

// Daemons that are killed and started again, the leader's as well, while a service is updated and scaled cost no request on any node,
// that of the absent daemon included: its kernel goes on forwarding, so tasks that its tables name must not stop before it is back.
func TestUpdatesWhileDaemonsAreKilledCostNoRequest(t *testing.T) {
	length, rounds := 20*time.Second, 1
	if nightly {
		length, rounds = 5*time.Minute, 12 // an hour
		if n, err := strconv.Atoi(os.Getenv("SHOAL_CHAOS_ROUNDS")); err == nil {
			rounds = n
		}
	}
	c := newManagers(t, "chaos")
	c.create(c.n1, "--name", "web", "-p", "8080:80", "--replicas", "6", "--update-order", "start-first", "--update-parallelism", "2",
		"--update-monitor", "100ms", "--stop-grace-period", "2s", "srv:1")
	for range rounds {
		seed := chaosSeed(t)
		traffic := c.startTraffic(load.Config{URLs: c.everyNode(8080), Pause: 10 * time.Millisecond})
		round := &chaos{cluster: c, random: rand.New(rand.NewPCG(seed, 1)), until: time.Now().Add(length)}
		var killer sync.WaitGroup
		killer.Go(func() { round.killDaemons(rand.New(rand.NewPCG(seed, 2))) })
		operations := 0
		for ; time.Now().Before(round.until) && !t.Failed(); operations++ {
			round.operate()
		}
		killer.Wait()
		c.settled(c.n1, "web")
		t.Logf("%d operations, %d daemons killed", operations, round.kills)
		traffic.finish()
		if operations == 0 || round.kills == 0 {
			t.Error("nothing was tried")
		}
	}
}

// countsAsDown is how long a node may be without a session: after it drains wait for it no more, and a machine that is too busy to start a daemon sooner
// loses requests by that.
const countsAsDown = shoal.DefaultHeartbeatPeriod / 2

// killDaemons kills one daemon after the other and starts it again within a second, sooner than its node counts as Down.
func (c *chaos) killDaemons(random *rand.Rand) {
	for time.Now().Before(c.until) && !c.t.Failed() {
		victim := c.Nodes()[random.IntN(len(c.Nodes()))]
		c.setAway(victim)
		killed := time.Now()
		err := victim.Kill()
		time.Sleep(time.Duration(random.Int64N(int64(time.Second)))) // the daemon's absence is what is tried
		if err = errors.Join(err, victim.Start()); err != nil {
			c.t.Errorf("daemon of %s: %v", victim.Name, err)
			return
		}
		c.eventually(30*time.Second, victim.Name+" is back", func() error {
			r := c.docker(victim, "node", "ls", "--format", "{{.Status}} {{.ManagerStatus}}")
			if strings.Count(r.Stdout, "Ready ") != 3 || strings.Contains(r.Stdout, "Unreachable") {
				return errors.New(r.Text())
			}
			return nil
		})
		if took := time.Since(killed); took > countsAsDown {
			c.t.Logf("%s was away or without a session for up to %v, from %s on", victim.Name, took.Round(time.Millisecond), killed.UTC().Format("15:04:05.000"))
			c.mu.Lock()
			c.slow = time.Now()
			c.mu.Unlock()
		}
		c.kills++
		c.setAway(nil)
		time.Sleep(time.Duration(random.Int64N(int64(time.Second))))
	}
}

func (c *chaos) setAway(n *lab.Node) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.away = n
}

// present is a node whose daemon is not known to be away.
func (c *chaos) present() *lab.Node {
	c.mu.Lock()
	defer c.mu.Unlock()
	for {
		if n := c.Nodes()[c.random.IntN(len(c.Nodes()))]; n != c.away {
			return n
		}
	}
}

// operate updates or scales the service and waits until that is done. A command whose daemon is killed is given to another.
func (c *chaos) operate() {
	args := []string{"service", "update", "-d", "-q", "--no-resolve-image", "--force", "web"}
	if c.random.IntN(2) == 0 {
		args = []string{"service", "scale", "-d", fmt.Sprintf("web=%d", 3+c.random.IntN(6))}
	}
	c.eventually(time.Minute, strings.Join(args, " "), func() error {
		if r := c.docker(c.present(), args...); r.Code != 0 {
			return errors.New(r.Text())
		}
		return nil
	})
	c.settle()
}

// settle waits until the service has settled: for a minute, and for as long as the machine is so busy that daemons are not back before their nodes count
// as Down. Then tasks are replaced by the minute, and a drain waits for the next of those nodes when it is done with the last.
func (c *chaos) settle() {
	const limit, busyLimit = time.Minute, 5 * time.Minute
	began := time.Now()
	c.eventually(busyLimit, "the service has settled", func() error {
		c.mu.Lock()
		slow := c.slow
		c.mu.Unlock()
		if late := time.Since(began); late > limit && time.Since(slow) > limit {
			c.t.Fatalf("not settled after %v: %s", late, c.ok(c.present(), "service", "ps", "web"))
		}
		r := c.docker(c.present(), "service", "inspect", "web", "--format", "{{with .UpdateStatus}}{{.State}}{{end}}")
		if r.Code != 0 || r.Text() == "updating" {
			return errors.New(r.Text())
		}
		return c.hasSettled(c.present(), "web")
	})
}
