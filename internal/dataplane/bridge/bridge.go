// Package bridge makes the Linux bridges of the node's namespace that local containers are on, and the rules by which they are forwarded and
// masqueraded. It reads the node's links, and writes bridges with their addresses, the node's forwarding sysctls, and rulesets (package nft).
package bridge

import (
	"cmp"
	"errors"
	"fmt"
	"net/netip"
	"reflect"

	"github.com/vishvananda/netlink"

	"github.com/shoal-dev/shoal/internal/dataplane/config"
	"github.com/shoal-dev/shoal/internal/dataplane/netns"
	"github.com/shoal-dev/shoal/internal/dataplane/rtnl"
	"github.com/shoal-dev/shoal/internal/shoal"
)

// Bridges is the bridges of the node. It is not safe for concurrent use.
type Bridges struct {
	node  *netns.Namespace
	links *netlink.Handle // in node
	owner string          // the alias of bridges that are ours

	applied map[string]*config.Bridge // by name; what failed half way is not in it
	// searched tells that the node's links were searched for bridges that an earlier process made.
	searched bool
}

// New is the bridges of the node's namespace that have owner as their alias. links is an rtnetlink socket in the namespace.
func New(node *netns.Namespace, links *netlink.Handle, owner string) *Bridges {
	return &Bridges{node: node, links: links, owner: owner, applied: map[string]*config.Bridge{}}
}

// Forget makes the next Apply and Prune look at the kernel itself.
func (b *Bridges) Forget() { b.applied, b.searched = map[string]*config.Bridge{}, false }

// Len is how many bridges are applied.
func (b *Bridges) Len() int { return len(b.applied) }

// EnableForwarding makes the node forward, as far as these bridges need it.
func (b *Bridges) EnableForwarding(bridges map[string]*config.Bridge) error {
	if len(bridges) == 0 {
		return nil
	}
	err := b.node.Run(netns.ForwardIPv4)
	for _, want := range bridges {
		if want.Gateway6.IsValid() {
			return errors.Join(err, b.node.Run(netns.ForwardIPv6))
		}
	}
	return err
}

// Apply makes a bridge as it should be. It does nothing if that is what was last applied.
func (b *Bridges) Apply(want *config.Bridge) error {
	if was := b.applied[want.Name]; was == want || reflect.DeepEqual(was, want) {
		return nil
	}
	delete(b.applied, want.Name)
	if err := b.apply(want); err != nil {
		return err
	}
	b.applied[want.Name] = want
	return nil
}

func (b *Bridges) apply(want *config.Bridge) error {
	link, err := b.links.LinkByName(want.Name)
	if rtnl.NotFound(err) && !want.Given {
		link = &netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: want.Name, MTU: cmp.Or(max(want.MTU, 0), rtnl.DefaultMTU),
			HardwareAddr: cmp.Or(shoal.MACFor(want.Gateway.Addr()), shoal.MACFor6(want.Gateway6.Addr())).HardwareAddr(), Alias: b.owner, TxQLen: -1}}
		if err := b.links.LinkAdd(link); err != nil {
			return fmt.Errorf("create bridge: %w", err)
		}
		link, err = b.links.LinkByName(want.Name)
	}
	if err != nil {
		return fmt.Errorf("find bridge: %w", err)
	}
	if link.Type() != "bridge" {
		return fmt.Errorf("interface %s is not a bridge, but a %s", want.Name, link.Type())
	}
	if rtnl.OwnedByAnother(link, b.owner) {
		return fmt.Errorf("bridge %s belongs to another daemon in this network namespace", want.Name)
	}
	if !want.Given {
		if err := b.adopt(link, want); err != nil {
			return err
		}
	}
	if want.Gateway6.IsValid() {
		if err := b.node.Run(func() error { return netns.EnableIPv6(want.Name) }); err != nil {
			return err
		}
	}
	if !want.Given || !rtnl.HasAddresses(b.links, link, addresses(want)...) {
		if err := rtnl.SetAddresses(b.links, link, addresses(want)...); err != nil {
			return err
		}
	}
	if err := b.links.LinkSetUp(link); err != nil {
		return fmt.Errorf("set bridge up: %w", err)
	}
	return b.node.Run(func() error {
		// Answers to connections that the node itself makes from a loopback address come back by the bridge, to that address.
		dir := "net/ipv4/conf/" + want.Name
		return errors.Join(netns.SetSysctl(dir+"/route_localnet", "1"), netns.SetSysctl(dir+"/accept_local", "1"))
	})
}

// addresses is those that the bridge itself has.
func addresses(want *config.Bridge) []netip.Prefix {
	if want.NoAddr {
		return []netip.Prefix{want.Gateway6}
	}
	return []netip.Prefix{want.Gateway, want.Gateway6}
}

// adopt marks a bridge as ours and gives it its MTU.
func (b *Bridges) adopt(link netlink.Link, want *config.Bridge) error {
	if link.Attrs().Alias != b.owner {
		if err := b.links.LinkSetAlias(link, b.owner); err != nil {
			return fmt.Errorf("adopt bridge: %w", err)
		}
	}
	if mtu := cmp.Or(max(want.MTU, 0), rtnl.DefaultMTU); link.Attrs().MTU != mtu {
		if err := b.links.LinkSetMTU(link, mtu); err != nil {
			return fmt.Errorf("set MTU of bridge: %w", err)
		}
	}
	return nil
}

// Prune removes bridges of ours that are not among the wanted. After New or Forget it searches all links of the node for them.
func (b *Bridges) Prune(want map[string]*config.Bridge) error {
	search := !b.searched || len(b.applied) == 0
	for name := range b.applied {
		search = search || want[name] == nil
	}
	if !search {
		return nil
	}
	links, err := b.links.LinkList()
	if err != nil {
		return fmt.Errorf("list links: %w", err)
	}
	b.searched = true
	for _, l := range links {
		name := l.Attrs().Name
		if l.Type() != "bridge" || l.Attrs().Alias != b.owner || want[name] != nil {
			continue
		}
		if err := b.links.LinkDel(l); err != nil {
			return fmt.Errorf("remove bridge %s: %w", name, err)
		}
		delete(b.applied, name)
	}
	return nil
}

// Drifted compares the kernel with what was applied. It returns the names of bridges that others have changed, and forgets them.
func (b *Bridges) Drifted() []string {
	var drifted []string
	for name, want := range b.applied {
		if !b.intact(want) {
			delete(b.applied, name)
			drifted = append(drifted, name)
		}
	}
	return drifted
}

func (b *Bridges) intact(want *config.Bridge) bool {
	link, err := b.links.LinkByName(want.Name)
	if err != nil || !rtnl.IsUp(link) {
		return false
	}
	forwards := false
	err = b.node.Run(func() (err error) {
		forwards, err = netns.ForwardsIPv4()
		return err
	})
	return err == nil && forwards && rtnl.HasAddresses(b.links, link, addresses(want)...)
}
