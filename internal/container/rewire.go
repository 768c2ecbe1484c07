package container

import "github.com/shoal-dev/shoal/internal/shoal"

// Rewire changes what the container will ask of the network when it starts next, and what its record says that it has.
func (e *Engine) Rewire(ref string, change func(wishes *shoal.SandboxSpec, has *shoal.Sandbox) error) error {
	c, err := e.find(ref)
	if err != nil {
		return err
	}
	e.update(c, func(info *Info) { err = change(&info.Spec.Network, &info.Sandbox) })
	return err
}
