package container

import (
	"errors"

	"github.com/shoal-dev/shoal/internal/shoal"
)

// UpdateNetwork changes which networks a container asks for when it starts next (wanted) and which sandbox its record says it has
// now (current). It changes the record only, not the kernel. It returns the error of change, and an error of kind
// not found if there is no such container. What change did to the record before it failed is kept.
func (e *Engine) UpdateNetwork(ref string, change func(wanted *shoal.SandboxSpec, current *shoal.Sandbox) error) error {
	c, err := e.find(ref)
	if err != nil {
		return err
	}
	written := e.commit(c, func(info *Info) { err = change(&info.Spec.Network, &info.Sandbox) })
	return errors.Join(err, written)
}
