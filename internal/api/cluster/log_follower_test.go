package cluster

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/shoal-dev/shoal/internal/shoal"
	"github.com/shoal-dev/shoal/internal/store"
	"github.com/shoal-dev/shoal/internal/store/storetest"
)

// flaky is a source of logs whose requests end as the test says.
type flaky struct {
	mu    sync.Mutex // guards down, lines, calls
	down  bool       // the only node
	lines []shoal.LogLine
	calls []shoal.LogQuery
	cut   chan error
}

func (s *flaky) logs(ctx context.Context, q shoal.LogQuery, each func(shoal.LogLine) error) error {
	s.mu.Lock()
	s.calls = append(s.calls, q)
	lines, down := slices.Clone(s.lines), s.down
	s.mu.Unlock()
	if down {
		return each(shoal.LogLine{NodeID: "n", Err: "node n is not available"})
	}
	for _, l := range lines {
		if slices.Contains(q.TaskIDs, l.TaskID) && !l.Time.Before(q.Since) {
			if err := each(l); err != nil {
				return err
			}
		}
	}
	select {
	case err := <-s.cut:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (s *flaky) setDown(down bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.down = down
}

func (s *flaky) print(task shoal.ID, n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.lines = append(s.lines, shoal.LogLine{TaskID: task, NodeID: "n", Time: time.Unix(int64(n), 0), Data: fmt.Appendf(nil, "%s%d", task, n)})
}

func TestFollowedLogsLoseAndDoubleNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		db := storetest.Open(t, store.NewMemory())
		put := func(objects ...store.Object) {
			t.Helper()
			if _, err := db.Commit(t.Context(), store.Changes{Puts: objects}); err != nil {
				t.Fatal(err)
			}
		}
		task := func(id shoal.ID) *shoal.Task {
			return &shoal.Task{Meta: shoal.Meta{ID: id}, ServiceID: "s", NodeID: "n",
				Status: shoal.TaskStatus{State: shoal.TaskRunning, Container: &shoal.ContainerStatus{ContainerID: "c"}}}
		}
		put(&shoal.Service{Meta: shoal.Meta{ID: "s"}, Spec: shoal.ServiceSpec{Name: "s"}}, task("a"))
		source := &flaky{cut: make(chan error)}
		var got []string
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		f := newLogFollower(source.logs, logSelection{store: db, service: "s"}, shoal.LogQuery{Tail: 2, Follow: true}, func(l shoal.LogLine) error {
			got = append(got, string(l.Data)+l.Err)
			return nil
		})
		go func() { ended <- f.run(ctx) }()
		pass := func(d time.Duration) {
			<-time.After(d)
			synctest.Wait()
		}
		cut := func(err error) {
			source.cut <- err
			pass(logRetryDelay)
		}
		expect := func(what string, want ...string) {
			t.Helper()
			f.mu.Lock()
			defer f.mu.Unlock()
			if !slices.Equal(got, want) {
				t.Errorf("%s: %q, want %q", what, got, want)
			}
		}
		synctest.Wait()
		cut(errors.New("the leader is gone"))
		source.print("a", 1)
		source.print("a", 2)
		cut(errors.New("the leader is gone"))
		expect("after a failed request", "a1", "a2")
		source.print("a", 3)
		cut(nil) // as a log that was not begun yet ends
		expect("after a second one", "a1", "a2", "a3")
		if last := source.calls[len(source.calls)-1]; last.Tail != -1 || !last.Since.Equal(time.Unix(2, 0)) {
			t.Errorf("goes on with %+v", last)
		}
		source.print("b", 1)
		put(task("b"))
		pass(0)
		expect("with a task that has come", "a1", "a2", "a3", "b1")
		source.setDown(true)
		cut(nil)
		cut(nil) // the other request
		pass(logOutageLimit / 2)
		expect("while the node is away for a little", "a1", "a2", "a3", "b1")
		pass(3 * logOutageLimit)
		expect("while the node stays away", "a1", "a2", "a3", "b1", "node n is not available")
		source.print("b", 2)
		source.setDown(false)
		pass(logRetryDelay)
		expect("when it is back", "a1", "a2", "a3", "b1", "node n is not available", "b2")
		cancel()
		if err := <-ended; !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
	})
}
