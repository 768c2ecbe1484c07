package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/shoal-dev/shoal/test/lab"
)

// `swarm init` once answered after 20 s that there was no session with a manager. SHOAL_INITS is how often it is tried, on each of three nodes at the same time,
// while the disk is kept busy with flushes.
func TestManyInitsUnderLoad(t *testing.T) {
	count, err := strconv.Atoi(os.Getenv("SHOAL_INITS"))
	if err != nil {
		count = 2
	}
	c := newLab(t, "inits")
	done := make(chan struct{})
	var busy sync.WaitGroup
	const writers = 4
	for i := range writers {
		busy.Go(func() { flushUntil(t, filepath.Join(c.Dir, fmt.Sprint("load", i)), done) })
	}
	var trying sync.WaitGroup
	var mu sync.Mutex // guards longest, failed
	var longest time.Duration
	failed := 0
	for _, n := range []*lab.Node{c.n1, c.n2, c.n3} {
		trying.Go(func() {
			for i := range count {
				begin := time.Now()
				r := c.docker(n, "swarm", "init", "--advertise-addr", n.Addr)
				mu.Lock()
				longest = max(longest, time.Since(begin))
				if r.Code != 0 {
					failed++
					t.Errorf("init %d on %s after %v: %s", i, n.Name, time.Since(begin), r.Text())
				}
				mu.Unlock()
				if r := c.docker(n, "swarm", "leave", "--force"); r.Code != 0 {
					t.Errorf("leave %d on %s: %s", i, n.Name, r.Text())
				}
			}
		})
	}
	trying.Wait()
	close(done)
	busy.Wait()
	t.Logf("%d of %d inits failed; the longest took %v", failed, 3*count, longest)
}

// flushUntil writes to a file, and flushes it, until done.
func flushUntil(t *testing.T, path string, done <-chan struct{}) {
	file, err := os.Create(path)
	if err != nil {
		t.Error(err)
		return
	}
	defer func() { _ = file.Close() }()
	data := make([]byte, 1<<20)
	for i := 0; ; i++ {
		select {
		case <-done:
			return
		default:
		}
		const size = 16
		if _, err := file.WriteAt(data, int64(i%size)<<20); err != nil {
			t.Error(err)
			return
		}
		if err := file.Sync(); err != nil {
			t.Error(err)
			return
		}
	}
}
