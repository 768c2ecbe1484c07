package diagnosis

import (
	"slices"
	"sync"
	"time"

	"github.com/shoal-dev/shoal/internal/shoal"
)

// maxRepairs is how many of the latest repairs are kept.
const maxRepairs = 100

// Repairs counts and lists the kernel state that was restored after other programs had changed it. It is safe for concurrent use. The zero value
// has none.
type Repairs struct {
	mu    sync.Mutex // guards what follows
	count uint64
	last  []shoal.Repair
}

// Add notes what was restored just now. err is why it could not be, nil if it was.
func (r *Repairs) Add(what []string, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, w := range what {
		one := shoal.Repair{At: time.Now(), What: w}
		if err != nil {
			one.Err = err.Error()
		}
		r.last = append(r.last, one)
	}
	r.count += uint64(len(what))
	r.last = r.last[max(0, len(r.last)-maxRepairs):]
}

// List is how many repairs there were since the daemon started, and the latest of them, oldest first.
func (r *Repairs) List() (count uint64, last []shoal.Repair) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.count, slices.Clone(r.last)
}
