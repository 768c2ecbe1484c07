// Package local keeps the networks of one node: the predefined ones, the user's bridges and macvlan networks, and configuration-only ones. It
// reads what the node has of routes and interfaces, and writes a record of each network to disk. The kernel is left to the data plane.
package local

import (
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/containerd/errdefs"

	"github.com/shoal-dev/shoal/internal/atomicfile"
	"github.com/shoal-dev/shoal/internal/network/ipam"
	"github.com/shoal-dev/shoal/internal/shoal"
)

// Host is the node's own namespace, as new networks depend on it.
type Host interface {
	// Routes is the subnets that the node reaches otherwise than by its default routes.
	Routes() ([]netip.Prefix, error)
	// Addrs6 is the node's IPv6 addresses that reach beyond its links, without those in the given subnets.
	Addrs6(networks []netip.Prefix) ([]netip.Addr, error)
	// CheckBridge returns an error if the node has an interface of the name that is none of its own networks' bridges.
	CheckBridge(name string) error
	// CheckLink returns an error if the node has no interface of the name.
	CheckLink(name string) error
}

// Config is what Networks needs. All of it is required.
type Config struct {
	Log *slog.Logger
	// Dir is where the records are. It is made if it is missing.
	Dir string
	// Pools is what subnets are cut from.
	Pools []ipam.Pool
	// IPv6 tells whether the kernel has it.
	IPv6 bool
	Host Host
	// SetAside takes the file of a record that is malformed, and the reason.
	SetAside func(path string, cause error) error
}

// Networks is the networks of the node. It is guarded by its owner.
type Networks struct {
	cfg  Config
	byID map[shoal.NetworkID]*Network
}

// Open reads the records. Malformed ones are set aside; those that cannot be read for another reason are left for the next start.
func Open(c Config) (*Networks, error) {
	n := &Networks{cfg: c, byID: map[shoal.NetworkID]*Network{}}
	if err := atomicfile.Mkdir(c.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("make network directory: %w", err)
	}
	files, err := filepath.Glob(filepath.Join(c.Dir, "*.json"))
	if err != nil {
		return nil, err
	}
	for _, f := range files {
		var net shoal.Network
		err := atomicfile.ReadJSON(f, &net)
		if err == nil {
			err = checkRecord(f, net)
		}
		switch {
		case err == nil:
			n.byID[net.ID] = newNetwork(net)
		case errors.Is(err, atomicfile.ErrMalformed):
			_ = c.SetAside(f, err) // logged; if it fails, the record is read again at the next start
		default:
			c.Log.Error("record of a network cannot be read; the network is left alone until the daemon starts again", "file", f, "err", err)
		}
	}
	return n, nil
}

// checkRecord refuses a record that no network can be made from.
func checkRecord(file string, net shoal.Network) error {
	switch {
	case string(net.ID)+".json" != filepath.Base(file):
		return fmt.Errorf("read %s: %w: it is of network %q", file, atomicfile.ErrMalformed, net.ID)
	case allocates(net.Spec.Driver) && (len(net.IPAM) == 0 || !net.IPAM[0].Subnet.IsValid()):
		return fmt.Errorf("read %s: %w: it has no subnet", file, atomicfile.ErrMalformed)
	}
	return nil
}

func (n *Networks) recordFile(id shoal.NetworkID) string {
	return filepath.Join(n.cfg.Dir, string(id)+".json")
}

// All is the networks by their IDs, in no order.
func (n *Networks) All() iter.Seq2[shoal.NetworkID, *Network] { return maps.All(n.byID) }

// Get is the network with the ID; nil if there is none.
func (n *Networks) Get(id shoal.NetworkID) *Network { return n.byID[id] }

// Find finds a network by ID, name or the beginning of an ID; nil if there is none.
func (n *Networks) Find(name string) *Network {
	if l := n.byID[shoal.NetworkID(name)]; l != nil {
		return l
	}
	var byPrefix *Network
	for id, l := range n.byID {
		if l.Spec.Name == name {
			return l
		}
		if name != "" && strings.HasPrefix(string(id), name) {
			byPrefix = l
		}
	}
	return byPrefix
}

// Subnets is the subnets of all networks.
func (n *Networks) Subnets() []netip.Prefix {
	var out []netip.Prefix
	for _, l := range n.byID {
		if l.Spec.ConfigOnly {
			continue // its subnets belong to the networks made from it
		}
		for _, s := range l.IPAM {
			out = append(out, s.Subnet)
		}
	}
	return out
}

// Remove deletes a network and its record. Predefined networks, settings that other networks were made from and networks for which inUse returns
// an error stay. Errors have Docker's words.
func (n *Networks) Remove(name string, inUse func(*Network) error) (*Network, error) {
	l := n.Find(name)
	switch {
	case l == nil:
		return nil, errdefs.ErrNotFound.WithMessage(fmt.Sprintf("network %s not found", name))
	case slices.Contains([]string{shoal.DefaultBridgeName, hostName, noneName}, l.Spec.Name):
		return nil, errdefs.ErrPermissionDenied.WithMessage(fmt.Sprintf("%s is a pre-defined network and cannot be removed", l.Spec.Name))
	case n.dependent(l) != nil:
		return nil, errdefs.ErrPermissionDenied.WithMessage(fmt.Sprintf("configuration network %q is in use", l.Spec.Name))
	}
	if err := inUse(l); err != nil {
		return nil, err
	}
	if err := os.Remove(n.recordFile(l.ID)); err != nil {
		return nil, err
	}
	delete(n.byID, l.ID)
	return l, nil
}
