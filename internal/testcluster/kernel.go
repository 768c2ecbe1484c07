package testcluster

import (
	"context"
	"errors"
	"maps"
	"slices"
	"sync"

	"github.com/shoal-dev/shoal/internal/shoal"
)

// kernel has the endpoint table that the node's kernel would carry out. It survives the daemon, but not the machine.
type kernel struct {
	mu    sync.Mutex // guards all below
	table shoal.Table
	held  chan struct{} // tables wait until it is closed; nil when they do not
	// refused is networks whose endpoints stay as they are whatever a table says.
	refused map[shoal.NetworkID]bool
}

// errNetworkRefused is what comes of a table that changes refused networks.
var errNetworkRefused = errors.New("the kernel refuses a network")

// apply implements agent.Config.ApplyTable.
func (k *kernel) apply(ctx context.Context, delta *shoal.TableDelta) ([]shoal.NetworkID, error) {
	k.mu.Lock()
	held := k.held
	k.mu.Unlock()
	if held != nil {
		select {
		case <-held:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	before := k.table.Clone()
	delta.ApplyTo(&k.table)
	if len(k.refused) == 0 {
		return nil, nil
	}
	stays := func(_ shoal.EndpointKey, e shoal.Endpoint) bool { return k.refused[e.NetworkID] }
	maps.DeleteFunc(k.table.Endpoints, stays)
	for key, e := range before.Endpoints {
		if stays(key, e) {
			k.table.Endpoints[key] = e
		}
	}
	return slices.Sorted(maps.Keys(k.refused)), errNetworkRefused
}

// refuse makes the kernel refuse what tables say of networks; with none it takes up everything again.
func (k *kernel) refuse(networks ...shoal.NetworkID) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.refused = map[shoal.NetworkID]bool{}
	for _, id := range networks {
		k.refused[id] = true
	}
}

// clear implements swarm.Config.ClearNetworks.
func (k *kernel) clear(context.Context) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.table = shoal.Table{}
	return nil
}

// hold makes tables wait, release lets them go on.
func (k *kernel) hold() {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.held == nil {
		k.held = make(chan struct{})
	}
}

func (k *kernel) release() {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.held != nil {
		close(k.held)
		k.held = nil
	}
}

// ready is the tasks that the node sends new connections to.
func (k *kernel) ready() map[shoal.TaskID]bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	all := map[shoal.TaskID]bool{}
	for _, e := range k.table.Endpoints {
		if e.State == shoal.EndpointReady {
			all[e.TaskID] = true
		}
	}
	return all
}

// balances tells whether the node sends new connections to a task.
func (k *kernel) balances(task shoal.TaskID) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, e := range k.table.Endpoints {
		if e.TaskID == task && e.State == shoal.EndpointReady {
			return true
		}
	}
	return false
}
