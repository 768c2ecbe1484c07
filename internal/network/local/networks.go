// Package local keeps the networks of one node: the predefined ones, the user's bridges and macvlan networks, and configuration-only ones. It
// reads what the node has of routes and interfaces, and writes a record of each network to disk. The kernel is left to the data plane.
package local

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/containerd/errdefs"

	"github.com/shoal-dev/shoal/internal/atomicfile"
	"github.com/shoal-dev/shoal/internal/network/ipam"
	"github.com/shoal-dev/shoal/internal/quarantine"
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
	// IsOthers tells whether another daemon has made the interface of the name.
	IsOthers(name string) bool
	// BridgeAddr is the IPv4 address of a bridge that is there already; invalid if it has none. An error, in Docker's words, means that there is no such bridge.
	BridgeAddr(name string) (netip.Prefix, error)
	// CheckLink returns an error if the node has no interface of the name.
	CheckLink(name string) error
	// HasIPvlan tells whether the kernel has ipvlan interfaces.
	HasIPvlan() bool
}

// Config is what Networks needs. All of it is required.
type Config struct {
	// Dir is where the records are. It is made if it is missing.
	Dir string
	// Pools is what subnets are cut from.
	Pools []ipam.Pool
	// IPv6 tells whether the kernel has it.
	IPv6 bool
	Host Host
	// DefaultBridge is optional.
	DefaultBridge DefaultBridge
	// DefaultOptions, optional, is the driver options of new networks that do not set them, by driver.
	DefaultOptions map[string]map[string]string
	// SetAside takes the file of a record that is malformed, and the reason.
	SetAside func(path string, cause error) error
	// Retry has something tried again later, which now failed because of cause. part names it to a user.
	Retry func(part string, cause error, try func() error)
}

// Networks is the networks of the node. It is guarded by its owner.
type Networks struct {
	cfg  Config
	byID map[shoal.NetworkID]*Network
	// listed tells that the folder of the records was read. Until then no network is made: it might be there already.
	listed bool
}

// Open reads the records. Malformed ones are set aside; what cannot be read for another reason is tried again later.
func Open(c Config) (*Networks, error) {
	n := &Networks{cfg: c, byID: map[shoal.NetworkID]*Network{}}
	if err := atomicfile.Mkdir(c.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("make network directory: %w", err)
	}
	if err := n.load(); err != nil {
		c.Retry("networks of this node", err, n.load)
	}
	return n, nil
}

func (n *Networks) load() error {
	entries, err := os.ReadDir(n.cfg.Dir)
	if err != nil {
		return err
	}
	n.listed = true
	for _, e := range entries {
		if filepath.Ext(e.Name()) != recordExt {
			continue
		}
		file := filepath.Join(n.cfg.Dir, e.Name())
		if err := n.loadRecord(file); err != nil {
			n.cfg.Retry("network "+strings.TrimSuffix(e.Name(), recordExt), err, func() error { return n.loadRecord(file) })
		}
	}
	return nil
}

// recordExt ends the name of a record's file.
const recordExt = ".json"

// loadRecord reads the network in a file. It is no error if that is malformed, and set aside, or gone.
func (n *Networks) loadRecord(file string) error {
	var net shoal.Network
	err := atomicfile.ReadJSON(file, &net)
	if err == nil {
		err = checkRecord(file, net)
	}
	var made *Network
	if err == nil {
		if fault := quarantine.Guard(func() error { made = newNetwork(net); return nil }); fault != nil {
			err = fmt.Errorf("read %s: %w: %w", file, atomicfile.ErrMalformed, fault)
		}
	}
	switch {
	case err == nil:
		n.byID[net.ID] = made
	case errors.Is(err, fs.ErrNotExist):
	case errors.Is(err, atomicfile.ErrMalformed):
		_ = n.cfg.SetAside(file, err) // logged; if it fails, the record is read again at the next start
	default:
		return err
	}
	return nil
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
	return filepath.Join(n.cfg.Dir, string(id)+recordExt)
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

// recordVersion is the schema version of the records. It grows when what a field means changes.
const recordVersion = 1

// Save writes a network's record. It reads nothing that its owner guards, so that the disk is waited for without a lock; so does RemoveRecord.
func (n *Networks) Save(l *Network) error {
	encoded, err := json.Marshal(l.Network)
	if err == nil {
		err = atomicfile.WriteRecord[shoal.Network](atomicfile.Write, n.recordFile(l.ID), encoded, recordVersion, 0o600)
	}
	if err != nil {
		return fmt.Errorf("save network: %w", err)
	}
	return nil
}

// RemoveRecord removes a network's record. It is no error if there is none.
func (n *Networks) RemoveRecord(l *Network) error { return atomicfile.RemoveAll(n.recordFile(l.ID)) }

// Forget takes a network out, without its record.
func (n *Networks) Forget(l *Network) { delete(n.byID, l.ID) }

// Restore puts back a network that was taken out.
func (n *Networks) Restore(l *Network) { n.byID[l.ID] = l }

// Remove takes a network out, without its record. Predefined networks, settings that other networks were made from and networks for which inUse returns
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
	n.Forget(l)
	return l, nil
}
