package e2e

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"
	"github.com/moby/moby/api/types/swarm"
	"github.com/moby/moby/client"

	"github.com/shoal-dev/shoal/test/lab"
)

// registers are configs whose label several clients compare and set through all managers, with a record of what each was told. The
// record is held against the model of a register: no acknowledged write is lost, and none is acknowledged that was made over a newer one.
type registers struct {
	c       *cluster
	names   []string
	present func(random *rand.Rand) *lab.Node // a node to ask
	stop    context.CancelFunc
	writers sync.WaitGroup
	began   time.Time

	mu      sync.Mutex
	history []porcupine.Operation
}

const registerLabel = "value"

// compareAndSet is a write that is valid only over the value that its client has read; read is the last one's.
type compareAndSet struct {
	register  string
	old, next string
	read      bool
}

// outcome is what a client was told.
type outcome string

const (
	acknowledged outcome = "acknowledged"
	refused      outcome = "refused" // "update out of sequence"
	unknown      outcome = "unknown" // the connection broke, or nobody led: it may have been made or not
)

var registerModel = porcupine.Model{
	Init: func() any { return "" },
	Partition: func(history []porcupine.Operation) [][]porcupine.Operation {
		of := map[string][]porcupine.Operation{}
		for _, o := range history {
			name := o.Input.(compareAndSet).register
			of[name] = append(of[name], o)
		}
		var parts [][]porcupine.Operation
		for _, part := range of {
			parts = append(parts, part)
		}
		return parts
	},
	Step: func(state, input, output any) (bool, any) {
		in, told := input.(compareAndSet), output.(outcome)
		switch {
		case in.read:
			return state == in.old, state
		case told == refused:
			return true, state
		case state == in.old:
			return true, in.next
		}
		return told != acknowledged, state
	},
	DescribeOperation: func(input, output any) string { return fmt.Sprintf("%+v: %v", input, output) },
}

// writeRegisters starts two writers for each of three registers.
func (c *cluster) writeRegisters(seed uint64, present func(*rand.Rand) *lab.Node) *registers {
	c.t.Helper()
	ctx, stop := context.WithCancel(c.t.Context())
	r := &registers{c: c, names: []string{"r0", "r1", "r2"}, present: present, stop: stop, began: time.Now()}
	for i, name := range r.names {
		spec := swarm.ConfigSpec{Annotations: swarm.Annotations{Name: name, Labels: map[string]string{registerLabel: ""}}, Data: []byte("x")}
		if _, err := c.api(c.n1).ConfigCreate(ctx, client.ConfigCreateOptions{Spec: spec}); err != nil {
			c.t.Fatal(err)
		}
		for writer := range 2 {
			id := 2*i + writer
			random := rand.New(rand.NewPCG(seed, uint64(id))) // #nosec G115 -- a small number
			r.writers.Go(func() {
				for n := 0; ctx.Err() == nil; n++ {
					r.write(ctx, random, id, name, fmt.Sprintf("%d.%d", id, n))
				}
			})
		}
	}
	return r
}

// api is a client of a node's API.
func (c *cluster) api(n *lab.Node) *client.Client {
	cli, err := client.New(client.WithHost("unix://" + n.Socket()))
	if err != nil {
		c.t.Fatal(err)
	}
	return cli
}

// write reads a register through one manager and sets it through the same.
func (r *registers) write(ctx context.Context, random *rand.Rand, writer int, name, next string) {
	ctx, cancel := context.WithTimeout(ctx, 15*time.Second)
	defer cancel()
	api := r.c.api(r.present(random))
	defer func() { _ = api.Close() }()
	found, err := api.ConfigInspect(ctx, name, client.ConfigInspectOptions{})
	if err != nil {
		return // nothing was tried
	}
	spec := found.Config.Spec
	op := compareAndSet{register: name, old: spec.Labels[registerLabel], next: next}
	spec.Labels = map[string]string{registerLabel: next}
	called := time.Since(r.began)
	_, err = api.ConfigUpdate(ctx, found.Config.ID, client.ConfigUpdateOptions{Version: found.Config.Version, Spec: spec})
	told, returned := acknowledged, time.Since(r.began)
	switch {
	case err != nil && strings.Contains(err.Error(), "update out of sequence"):
		told = refused
	case err != nil:
		told, returned = unknown, math.MaxInt64
	}
	r.record(writer, op, told, called, returned)
}

func (r *registers) read(ctx context.Context, n *lab.Node, name string) (string, error) {
	api := r.c.api(n)
	defer func() { _ = api.Close() }()
	found, err := api.ConfigInspect(ctx, name, client.ConfigInspectOptions{})
	return found.Config.Spec.Labels[registerLabel], err
}

func (r *registers) record(writer int, op compareAndSet, told outcome, called, returned time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.history = append(r.history, porcupine.Operation{ClientId: writer, Input: op, Call: int64(called), Output: told, Return: int64(returned)})
}

// check ends the writers, waits until every manager shows the same values, and judges what the clients were told.
func (r *registers) check(t *testing.T) {
	t.Helper()
	r.stop()
	r.writers.Wait()
	for _, name := range r.names {
		r.c.eventually(10*time.Second, "all managers show the same "+name, func() error {
			called := time.Since(r.began)
			shown := map[string]bool{}
			for _, n := range r.c.Nodes() {
				value, err := r.read(t.Context(), n, name)
				if err != nil {
					return err
				}
				shown[value] = true
			}
			if len(shown) > 1 {
				return fmt.Errorf("%v", shown)
			}
			for value := range shown {
				r.record(len(r.names)*2, compareAndSet{register: name, old: value, read: true}, acknowledged, called, time.Since(r.began))
			}
			return nil
		})
	}
	count := map[outcome]int{}
	for _, o := range r.history {
		count[o.Output.(outcome)]++
	}
	t.Logf("writes: %d acknowledged, %d refused because others were first, %d unknown", count[acknowledged], count[refused], count[unknown])
	if count[acknowledged] < 10 {
		t.Error("hardly anything was written")
	}
	if result := porcupine.CheckOperationsTimeout(registerModel, r.history, time.Minute); result != porcupine.Ok {
		t.Errorf("what clients were told cannot have happened to a register: %v", result)
		for _, o := range r.history {
			t.Logf("%d %v-%v %s", o.ClientId, time.Duration(o.Call), time.Duration(o.Return), registerModel.DescribeOperation(o.Input, o.Output))
		}
	}
}
