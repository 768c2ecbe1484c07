package dispatcher

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/containerd/errdefs"

	"github.com/shoal-dev/shoal/internal/rpc"
	"github.com/shoal-dev/shoal/internal/shoal"
	"github.com/shoal-dev/shoal/internal/store"
)

// fullBackend refuses writes while it is full, as a store member on a full disk does.
type fullBackend struct {
	*store.Memory
	full atomic.Bool
}

func (f *fullBackend) Txn(ctx context.Context, fence uint64, ops []store.Op) (uint64, error) {
	if f.full.Load() {
		return 0, errdefs.ErrUnavailable.WithMessage("the cluster's state cannot be changed by this manager")
	}
	return f.Memory.Txn(ctx, fence, ops)
}

// A sole manager whose disk was full logged that it could not write statuses every second.
func TestRefusedStatusesAreLoggedOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		backend := &fullBackend{Memory: store.NewMemory()}
		b := newBenchOn(t, backend, backend.Memory)
		var log bytes.Buffer
		b.cfg.Log = slog.New(slog.NewTextHandler(&log, nil))
		b.put(task("t", "a"))
		a := b.connect("a")
		backend.full.Store(true)
		a.say <- &rpc.AgentMessage{Statuses: []rpc.StatusReport{{TaskID: "t", Status: shoal.TaskStatus{State: shoal.TaskComplete}}}}
		for range 180 {
			<-time.After(time.Second)
			a.say <- &rpc.AgentMessage{}
		}
		synctest.Wait()
		if n := strings.Count(log.String(), "statuses of tasks"); n != 1 {
			t.Errorf("within three minutes it is logged %d times:\n%s", n, log.String())
		}
		backend.full.Store(false)
		for range 2 {
			<-time.After(time.Second)
			a.say <- &rpc.AgentMessage{}
		}
		synctest.Wait()
		if got := b.store.View().Task("t").Status.State; got != shoal.TaskComplete {
			t.Errorf("the task is %s", fmt.Sprint(got))
		}
		if n := strings.Count(log.String(), "statuses of tasks"); n != 2 {
			t.Errorf("that they are written again is not logged:\n%s", log.String())
		}
	})
}

// outdated is a manager that leads as far as it knows: another has led since.
type outdated struct {
	leadership
	epoch uint64
}

func (o outdated) Leader() (epoch uint64, leads bool, leadershipChanged <-chan struct{}) {
	return o.epoch, true, nil
}

// A manager that had been deposed and did not know it wrote what its agents had last told it over what they had told the next one since.
func TestADeposedManagerWritesNoStatuses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		b.put(task("t", "a"))
		epoch, _, _ := b.memory.Leader()
		b.memory.Campaign() // as another
		b.cfg.Leadership = outdated{leadership{b.memory}, epoch}
		a := b.connect("a")
		a.say <- &rpc.AgentMessage{Statuses: []rpc.StatusReport{{TaskID: "t", Status: shoal.TaskStatus{State: shoal.TaskComplete}}}}
		synctest.Wait()
		if got := b.store.View().Task("t").Status.State; got != shoal.TaskRunning {
			t.Errorf("the task is %s", fmt.Sprint(got))
		}
		if len(b.statuses) > 0 {
			t.Error("what the next leader is told anyway is kept")
		}
	})
}
