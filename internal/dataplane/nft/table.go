package nft

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/google/nftables"
	mdnetlink "github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"

	"github.com/shoal-dev/shoal/internal/dataplane/netns"
)

// socketBuffer, in bytes, holds a whole transaction: the batch goes out as one message, and every part of it is acknowledged.
const socketBuffer = 64 << 20

// Table is the data plane's table in one namespace. Its connection to the kernel stays open: to close one makes it wait until all that was removed
// is out of use, which takes ten milliseconds.
type Table struct {
	conn  *nftables.Conn
	table *nftables.Table
	// Generation is that of the namespace's nftables after our last transaction. Each transaction makes it one more, so that a different one
	// (see the function Generation) tells that others have changed something. A caller that finds the table whole nevertheless sets it.
	Generation uint32
}

// Open connects to the namespace's nftables. It needs the namespace only until it returns, and writes nothing.
func Open(ns *netns.Namespace) (*Table, error) { return OpenNamed(ns, tableName) }

// OpenNamed is Open for a table of another name.
func OpenNamed(ns *netns.Namespace, name string) (*Table, error) {
	conn, err := nftables.New(nftables.AsLasting(), nftables.WithNetNSFd(ns.FD()), nftables.WithSockOptions(func(c *mdnetlink.Conn) error {
		return errors.Join(c.SetWriteBuffer(socketBuffer), c.SetReadBuffer(socketBuffer))
	}))
	if err != nil {
		return nil, fmt.Errorf("open nftables: %w", err)
	}
	return &Table{conn: conn, table: ownTable(name)}, nil
}

// ownTable is for both kinds of addresses, or for IPv4 where the kernel knows no other.
func ownTable(name string) *nftables.Table {
	if !netns.HasIPv6() {
		return &nftables.Table{Name: name, Family: nftables.TableFamilyIPv4}
	}
	return &nftables.Table{Name: name, Family: nftables.TableFamilyINet}
}

// Close ends the connection; the kernel keeps the table.
func (t *Table) Close() error { return t.conn.CloseLasting() }

// Replace makes the table hold what rs says and nothing else, whatever it holds now, in one transaction. ns is the table's namespace.
func (t *Table) Replace(ns *netns.Namespace, rs *Ruleset) error {
	// To remove a table costs the kernel ten milliseconds; most namespaces are new and have none.
	if _, err := t.conn.ListTableOfFamily(t.table.Name, t.table.Family); err == nil {
		t.conn.DelTable(t.table)
	}
	t.conn.AddTable(t.table)
	if err := t.Change(NewRuleset(), rs); err != nil {
		return err
	}
	now, err := Generation(ns)
	t.Generation = now
	return err
}

// Change turns what the table is known to hold of some chains and elements into what it shall hold, in one transaction. All else stays as it is, and
// what stays keeps its state: a change to one service does not restart another one's round robin.
func (t *Table) Change(before, after *Ruleset) error {
	tx := &transaction{conn: t.conn, table: t.table, before: before, after: after}
	if err := tx.build(); err != nil {
		return err
	}
	if err := t.conn.Flush(); err != nil {
		return fmt.Errorf("commit nftables transaction: %w", err)
	}
	if tx.changes {
		t.Generation++
	}
	return nil
}

// Delete removes the table with all that is in it.
func (t *Table) Delete() error {
	t.conn.DelTable(t.table)
	return t.conn.Flush()
}

// Holds tells whether the table has as many rules and elements as rs in its chains and sets.
func (t *Table) Holds(rs *Ruleset) bool {
	for name, c := range rs.Chains {
		if rules, err := t.RuleCount(name); err != nil || rules != len(c.rules) {
			return false
		}
	}
	for name, s := range rs.Sets {
		if elements, err := t.Elements(name, s); err != nil || len(elements) != len(s.elements) {
			return false
		}
	}
	return true
}

// RuleCount is how many rules the kernel has in the chain. It is an error if there is no such chain.
func (t *Table) RuleCount(chain string) (int, error) {
	rules, err := t.conn.GetRules(t.table, &nftables.Chain{Table: t.table, Name: chain})
	return len(rules), err
}

// Elements is what the kernel has in the set of that name, which must be declared like s. The chains of verdict maps are not read.
func (t *Table) Elements(name string, s *Set) ([]nftables.SetElement, error) {
	tx := &transaction{table: t.table}
	elements, err := t.conn.GetSetElements(tx.kernelSet(name, s))
	if err != nil {
		return nil, fmt.Errorf("list elements of %s: %w", name, err)
	}
	return elements, nil
}

// Generation is a number that changes with every change to the namespace's nftables, whoever makes it.
func Generation(ns *netns.Namespace) (uint32, error) {
	conn, err := mdnetlink.Dial(unix.NETLINK_NETFILTER, &mdnetlink.Config{NetNS: ns.FD()})
	if err != nil {
		return 0, fmt.Errorf("open nftables: %w", err)
	}
	defer func() { _ = conn.Close() }()
	replies, err := conn.Execute(mdnetlink.Message{
		Header: mdnetlink.Header{Type: unix.NFNL_SUBSYS_NFTABLES<<8 | unix.NFT_MSG_GETGEN, Flags: mdnetlink.Request},
		Data:   make([]byte, 4), // struct nfgenmsg
	})
	if err != nil {
		return 0, fmt.Errorf("ask for nftables generation: %w", err)
	}
	for _, r := range replies {
		if len(r.Data) < 4 {
			continue
		}
		attrs, err := mdnetlink.NewAttributeDecoder(r.Data[4:])
		if err != nil {
			return 0, fmt.Errorf("read nftables generation: %w", err)
		}
		attrs.ByteOrder = binary.BigEndian
		for attrs.Next() {
			if attrs.Type() == unix.NFTA_GEN_ID {
				return attrs.Uint32(), nil
			}
		}
	}
	return 0, errors.New("the kernel's answer has no nftables generation")
}
