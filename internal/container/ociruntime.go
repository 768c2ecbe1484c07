package container

import (
	"github.com/containerd/errdefs"
)

// The names by which every node has its own OCI runtime.
const (
	stockRuntime     = "runc"
	stockRuntimeShim = "io.containerd.runc.v2"
)

// ociRuntime finds the program of a runtime by its name; it is empty for the node's own. An unknown name is an invalid argument.
func (e *Engine) ociRuntime(name string) (string, error) {
	if name == "" || name == stockRuntime || name == stockRuntimeShim {
		return "", nil
	}
	if e.Defaults != nil {
		if program := e.Defaults().Runtimes[name]; program != "" {
			return program, nil
		}
	}
	return "", errdefs.ErrInvalidArgument.WithMessage("unknown or invalid runtime name: " + name)
}
