package local

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/containerd/errdefs"

	"github.com/shoal-dev/shoal/internal/shoal"
)

// A macvlan or ipvlan network puts its containers behind an interface of the node, its parent. One without a parent is internal: a bridge without
// ports, made for it, stands in for the parent. (In Docker it is a dummy interface, which not every kernel has.)

const (
	modeL2     = "l2"
	flagBridge = "bridge"
)

// checkParent checks the options of a macvlan or ipvlan network. The words are Docker's where it has some.
func (n *Networks) checkParent(spec shoal.NetworkSpec) error {
	parent, mode, flag := spec.Options[optionParent], spec.Options[optionIPvlanMode], spec.Options[optionIPvlanFlag]
	macvlan := spec.Options[optionMacvlanMode]
	switch {
	case parent == "lo":
		return errdefs.ErrInvalidArgument.WithMessage(fmt.Sprintf("loopback interface is not a valid %s parent link", spec.Driver))
	case spec.Driver == shoal.DriverMacvlan && !slices.Contains([]string{"", "bridge", "private", "vepa", "passthru"}, macvlan):
		return errdefs.ErrInvalidArgument.WithMessage(fmt.Sprintf("requested macvlan mode '%s' is not valid, 'bridge' mode is the macvlan driver default", macvlan))
	case spec.Driver == shoal.DriverIPvlan && !slices.Contains([]string{"", modeL2, "l3", "l3s"}, mode):
		return errdefs.ErrInvalidArgument.WithMessage(fmt.Sprintf("requested ipvlan mode '%s' is not valid, 'l2' mode is the ipvlan driver default", mode))
	case spec.Driver == shoal.DriverIPvlan && !slices.Contains([]string{"", flagBridge, "private", "vepa"}, flag):
		return errdefs.ErrInvalidArgument.WithMessage(fmt.Sprintf("requested ipvlan flag '%s' is not valid, 'bridge' is the ipvlan driver default", flag))
	}
	if spec.Driver == shoal.DriverIPvlan && !n.cfg.Host.HasIPvlan() {
		return errdefs.ErrNotImplemented.WithMessage("the kernel of this node has no ipvlan (CONFIG_IPVLAN)")
	}
	if parent == "" {
		return nil
	}
	if err := n.cfg.Host.CheckLink(parent); err != nil {
		return errdefs.ErrInvalidArgument.WithMessage(fmt.Sprintf("failed to find parent interface %s: %v", parent, err))
	}
	for _, other := range n.byID {
		if spec.Driver == shoal.DriverIPvlan && other.Spec.Driver == spec.Driver && other.Parent() == parent {
			return errdefs.ErrPermissionDenied.WithMessage(fmt.Sprintf("network di-%s is already using parent interface %s", other.ID[:12], parent))
		}
	}
	return nil
}

// HasParent tells whether containers are behind an interface of the node.
func (n *Network) HasParent() bool {
	return n.HasEndpoints() && (n.Spec.Driver == shoal.DriverMacvlan || n.Spec.Driver == shoal.DriverIPvlan)
}

// Parent is the node's interface that a macvlan or ipvlan network is on; empty for another network.
func (n *Network) Parent() string {
	if !n.HasParent() {
		return ""
	}
	return cmp.Or(n.Spec.Options[optionParent], n.OwnParent())
}

// OwnParent is the bridge that stands in for the parent of a network that has none; empty for another network.
func (n *Network) OwnParent() string {
	switch {
	case !n.HasParent() || n.Spec.Options[optionParent] != "":
		return ""
	case n.Spec.Driver == shoal.DriverIPvlan:
		return "di-" + string(n.ID[:12])
	default:
		return "dm-" + string(n.ID[:12])
	}
}

// MacvlanMode is how the interfaces of a macvlan network behave; empty for "bridge".
func (n *Network) MacvlanMode() string { return n.Spec.Options[optionMacvlanMode] }

// IPvlan is how the interfaces of an ipvlan network behave; nil for another network.
func (n *Network) IPvlan() *shoal.IPvlan {
	if n.Spec.Driver != shoal.DriverIPvlan {
		return nil
	}
	return &shoal.IPvlan{Mode: cmp.Or(n.Spec.Options[optionIPvlanMode], modeL2), Flag: cmp.Or(n.Spec.Options[optionIPvlanFlag], flagBridge)}
}

// RoutesByDevice tells of an ipvlan network whose default routes lead through the interface itself.
func (n *Network) RoutesByDevice() bool {
	v := n.IPvlan()
	return v != nil && v.Mode != modeL2 && !n.Spec.Internal && n.OwnParent() == ""
}
