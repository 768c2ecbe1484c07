package dataplane

import (
	"fmt"
	"runtime/debug"
	"sync"

	"github.com/shoal-dev/shoal/internal/dataplane/sandbox"
)

// The parts of a Config of which there is one; other parts are "bridge NAME", "overlay ID" and "sandbox NAME".
const (
	PartWireGuard  = "wireguard"  // the WireGuard interface
	PartIngress    = "ingress"    // the node's part in the routing mesh
	PartPorts      = "ports"      // the node's nftables table
	PartForwarding = "forwarding" // the node's forwarding of packets
	PartPrune      = "prune"      // the removal of what is no longer wanted
)

// SandboxPrefix is the beginning of the names of sandboxes' parts; the name of the sandbox's namespace follows.
const SandboxPrefix = "sandbox "

func bridgePart(name string) string  { return "bridge " + name }
func overlayPart(id string) string   { return "overlay " + id }
func sandboxPart(name string) string { return SandboxPrefix + name }

// PartError says which part of a Config could not be applied; the others were.
type PartError struct {
	Part string // its name
	Err  error  // never nil
}

// InterfaceError is the cause of a sandbox's PartError when interfaces could not be made but all that the sandbox balances is up to date.
type InterfaceError = sandbox.InterfaceError

// Error is the part's name and the cause.
func (e *PartError) Error() string { return e.Part + ": " + e.Err.Error() }

// Unwrap returns the cause.
func (e *PartError) Unwrap() error { return e.Err }

// failures collects errors of parts that are applied in parallel.
type failures struct {
	mu   sync.Mutex // guards errs
	errs []error
}

// try applies a part and records its error. A panic, which is a fault of ours that this config brings out, is an error of the part: the node goes on with
// the others, and the caller's locks are given back.
func (f *failures) try(part string, apply func() error) {
	defer func() {
		if fault := recover(); fault != nil {
			f.note(part, fmt.Errorf("a fault of the daemon, please report it: %v\n%s", fault, debug.Stack()))
		}
	}()
	f.note(part, apply())
}

// note records the part's error, if it is one.
func (f *failures) note(part string, err error) {
	if err == nil {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.errs = append(f.errs, &PartError{part, err})
}
