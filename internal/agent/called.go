package agent

import (
	"net"
	"net/netip"
	"slices"
	"time"
)

const (
	maxCallers   = 4           // the newest that are tried
	callersValid = time.Minute // since they have called
)

// caller is an address from which a leader calls, as it seems.
type caller struct {
	addr netip.Addr
	at   time.Time
}

// Called says that a leader calls from an address, as it seems: anybody can. While the agent has no session it tries the address after the managers that it
// knows; who answers there must have a manager's certificate.
func (a *Agent) Called(addr netip.Addr) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.session != nil {
		return
	}
	a.callers = slices.DeleteFunc(a.callers, func(c caller) bool { return c.addr == addr })
	a.callers = append(a.callers, caller{addr, time.Now()})
	a.callers = a.callers[max(0, len(a.callers)-maxCallers):]
}

// knownManagers is where managers are, and then where they may be.
func (a *Agent) knownManagers() []string {
	a.mu.Lock()
	defer a.mu.Unlock()
	all := slices.Clone(a.managers)
	if len(all) == 0 {
		return all
	}
	_, port, err := net.SplitHostPort(all[0])
	if err != nil {
		return all
	}
	for _, c := range a.callers {
		at := net.JoinHostPort(c.addr.String(), port)
		if time.Since(c.at) < callersValid && !slices.Contains(all, at) {
			all = append(all, at)
		}
	}
	return all
}
