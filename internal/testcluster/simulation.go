package testcluster

import (
	"context"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/shoal-dev/shoal/internal/shoal"
	"github.com/shoal-dev/shoal/internal/store"
)

// simulation is one course of random faults and users' wishes.
type simulation struct {
	*Cluster
	random  *rand.Rand
	version int  // of the images
	lost    bool // a manager has lost its disk; with a second one the majority would be gone for good
	history []string
}

// Simulate does things at random that a majority of the managers survives, or comes back from, while users change services. Invariants hold all the
// time; and when all is well again, the cluster comes to rest as it was asked to, every table is right, and nothing acknowledged is lost.
func Simulate(t *testing.T, seed uint64) {
	t.Helper()
	Test(t, Config{Managers: 3, Workers: 3, Seed: seed}, func(t *testing.T, c *Cluster) {
		s := &simulation{Cluster: c, random: rand.New(rand.NewPCG(seed, seed))} // #nosec G404 -- to be repeated
		t.Cleanup(func() {
			if t.Failed() {
				t.Logf("what happened: %q", s.history)
			}
		})
		s.begin()
		acknowledged := c.WriteThroughout("m1", 300*time.Millisecond, s.misbehave)
		s.recover()
		for _, name := range acknowledged {
			if c.View().ConfigByName(name) == nil {
				t.Errorf("config %s was acknowledged and is lost", name)
			}
		}
	})
}

func (s *simulation) begin() {
	s.Eventually(s.Managers("m1", "m2", "m3"))
	s.Service("web", 7, Published(8080))
	s.Service("careful", 3, Published(8081), func(spec *shoal.ServiceSpec) {
		spec.Update = &shoal.UpdateConfig{Parallelism: 1, Order: shoal.StartFirst, FailureAction: shoal.ContinueOnFailure}
	})
	s.Service("everywhere", 1, Everywhere)
	s.Eventually(All(s.Runs("web", 7), s.Runs("careful", 3), s.Runs("everywhere", 6)))
}

// misbehave makes things happen, one after the other.
func (s *simulation) misbehave() {
	const steps, pause = 14, 4 * time.Second
	start := time.Now()
	for range steps {
		at := time.Since(start).Round(time.Millisecond)
		s.history = append(s.history, fmt.Sprint(at, " ", s.mishap()))
		time.Sleep(time.Duration(s.random.Int64N(int64(pause))))
	}
}

// mishap does one thing, and says what.
func (s *simulation) mishap() string {
	m, other := s.machines[s.random.IntN(len(s.machines))], s.machines[s.random.IntN(len(s.machines))]
	if leader := s.leader(); leader != nil && s.random.IntN(2) == 0 {
		other = leader // with whom everybody talks
	}
	if s.random.IntN(2) == 0 {
		m, other = other, m
	}
	const kinds = 16 // each is as likely as the others
	switch what := s.random.IntN(kinds); {
	case what < 2 && m.Up():
		s.Kill(m.Name)
		return "kill " + m.Name
	case what == 2 && m.Up():
		s.PowerOff(m.Name)
		return "power off " + m.Name
	case what < 6 && !m.Up():
		s.Start(m.Name)
		return "start " + m.Name
	case what == 6:
		s.Isolate(m.Name)
		return "isolate " + m.Name
	case what == 7:
		s.Isolate(m.Name, other.Name)
		return "isolate " + m.Name + " and " + other.Name
	case what == 8:
		s.Break(m.Name, other.Name)
		return "break " + m.Name + " to " + other.Name
	case what == 9:
		s.Block(m.Name, other.Name)
		return "block " + m.Name + " to " + other.Name
	case what == 10 && m.Up():
		s.Stall(m.Name)
		return "stall " + m.Name
	case what == 11:
		s.Continue(m.Name)
		return "continue " + m.Name
	case what == 12 && s.mayLoseDisk(m):
		s.LoseDisk(m.Name)
		return "lose the disk of " + m.Name
	case what == 13:
		s.Mend()
		return "mend"
	default:
		return s.wish()
	}
}

// mayLoseDisk tells whether the cluster can be expected to survive it: only one manager may.
func (s *simulation) mayLoseDisk(m *Machine) bool {
	if m.Name[0] != 'm' {
		return true
	}
	may := !s.lost
	s.lost = true
	return may
}

// wish is a user's change, which fails if there is nobody to take it.
func (s *simulation) wish() string {
	const patience, most = 2 * time.Second, 9
	ctx, cancel := context.WithTimeout(s.t.Context(), patience)
	defer cancel()
	db := s.store()
	if db == nil {
		return "nobody to ask"
	}
	services := []string{"web", "careful", "everywhere"}
	name := services[s.random.IntN(len(services))]
	s.version++
	replicas := 1 + s.random.Uint64N(most)
	what := "new image for " + name
	err := db.Update(ctx, func(v store.View) (store.Changes, error) {
		next := *v.ServiceByName(name)
		previous := next.Spec
		if name == "web" && s.version%2 == 0 {
			what = fmt.Sprintf("scale web to %d", replicas)
			next.Spec.Mode = shoal.ServiceMode{Replicated: &shoal.Replicated{Replicas: &replicas}}
		} else {
			next.Spec.Task.Container = &shoal.ContainerSpec{Image: fmt.Sprint(name, ":", s.version)}
		}
		next.PreviousSpec, next.UpdateStatus = &previous, nil
		next.SpecVersion++
		return store.Changes{Puts: []store.Object{&next}}, nil
	})
	if err != nil {
		what += ": " + err.Error()
	}
	return what
}

// recover ends all faults, replaces what has been lost, and waits until the cluster is as it was asked to be.
func (s *simulation) recover() {
	s.t.Helper()
	s.Mend()
	for _, m := range s.machines {
		m.stall(false)
		if !m.Up() {
			s.Start(m.Name)
		}
	}
	s.Leader()
	for _, m := range s.machines {
		if m.blank {
			s.Replace(m.Name)
		}
	}
	for _, m := range s.machines {
		s.Eventually(s.IsNode(m.Name, shoal.NodeReady))
	}
	s.UpdateService("web", func(spec *shoal.ServiceSpec) {
		spec.Mode.Replicated = &shoal.Replicated{Replicas: new(uint64(7))}
	})
	for _, name := range []string{"web", "careful", "everywhere"} {
		s.UpdateService(name, func(spec *shoal.ServiceSpec) { spec.Task.Container.Image = name })
	}
	s.Eventually(All(s.Managers("m1", "m2", "m3"), s.Runs("web", 7), s.Runs("careful", 3), s.Runs("everywhere", 6), s.OnlyWantedContainers(),
		s.TablesAreRight("web", "careful")))
}
