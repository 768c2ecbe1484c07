package dataplane

import (
	"errors"

	"github.com/shoal-dev/shoal/internal/dataplane/overlay"
)

// Namespace returns the path of the named namespace, which it makes if there is none. It is kept, even while no Config has it, until Release.
func (p *Plane) Namespace(name string) (string, error) {
	p.retainedMu.Lock()
	p.retained[name] = true
	p.retainedMu.Unlock()
	path := p.dir.Path(name)
	if p.dir.Exists(name) {
		return path, nil
	}
	return path, errors.Join(p.sandboxes.CloseConnection(name), p.dir.Create(name))
}

// Release lets the next Apply remove the namespace if its Config does not have it.
func (p *Plane) Release(name string) {
	p.retainedMu.Lock()
	defer p.retainedMu.Unlock()
	delete(p.retained, name)
}

func (p *Plane) isRetained(name string) bool {
	p.retainedMu.Lock()
	defer p.retainedMu.Unlock()
	return p.retained[name]
}

// Exists tells whether there is a namespace of that name.
func (p *Plane) Exists(name string) bool { return p.dir.Exists(name) }

// Inside runs f on a thread inside the named namespace, and returns its error or that there is none.
func (p *Plane) Inside(name string, f func() error) error {
	ns, err := p.dir.Open(name)
	if err != nil {
		return err
	}
	defer func() { _ = ns.Close() }()
	return ns.Run(f)
}

// InNode runs f on a thread inside the node's namespace, and returns its error.
func (p *Plane) InNode(f func() error) error { return p.node.Run(f) }

// pruneNamespaces removes the namespaces that neither the config has nor anyone retains. It comes after all else: until then they may be in use.
func (p *Plane) pruneNamespaces(c *Config) error {
	names, err := p.dir.Names()
	if err != nil {
		return err
	}
	var errs []error
	for _, name := range names {
		id, isOverlay := overlay.NetworkID(name)
		if c.Sandboxes[name] != nil || isOverlay && c.Overlays[id] != nil || p.isRetained(name) {
			continue
		}
		if isOverlay {
			errs = append(errs, p.overlays.Release(id))
		}
		errs = append(errs, p.sandboxes.CloseConnection(name), p.dir.Remove(name))
	}
	return errors.Join(errs...)
}
