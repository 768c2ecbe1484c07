package atomicfile

import (
	"strings"
	"sync"
	"sync/atomic"
)

// failpoints are what tests have set, by the folder below which they hold. They are the process's, because the rooms call functions, and by folder, because
// tests run side by side. The daemon never sets one.
var failpoints struct { //nolint:gochecknoglobals // see above
	any   atomic.Bool
	mu    sync.Mutex // guards byDir
	byDir map[string]func(Step, string) error
}

// SetFailpoint has f called before each operation on a file or folder below dir, which fails with f's error: tests make each of them fail in turn. The
// returned function ends that.
func SetFailpoint(dir string, f func(s Step, path string) error) (end func()) {
	p := &failpoints
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.byDir == nil {
		p.byDir = map[string]func(Step, string) error{}
	}
	p.byDir[dir] = f
	p.any.Store(true)
	return func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		delete(p.byDir, dir)
		p.any.Store(len(p.byDir) > 0)
	}
}

func before(s Step, path string) error {
	p := &failpoints
	if !p.any.Load() {
		return nil
	}
	p.mu.Lock()
	var f func(Step, string) error
	for dir, of := range p.byDir {
		if path == dir || strings.HasPrefix(path, dir+"/") {
			f = of
		}
	}
	p.mu.Unlock()
	if f == nil {
		return nil
	}
	return f(s, path)
}
