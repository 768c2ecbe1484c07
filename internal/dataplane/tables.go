package dataplane

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"slices"

	"github.com/google/nftables"
	mdnetlink "github.com/mdlayher/netlink"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

const batchBuffer = 64 << 20

// tables is a namespace's nftables as far as they are ours, and its connection tracking. Connections to the kernel stay open: to close
// one makes it wait until all that was removed is out of use, which takes ten milliseconds.
type tables struct {
	conn     *nftables.Conn
	table    *nftables.Table
	tracking *netlink.Handle // nil until it is needed
	// generation is that of the namespace's nftables after our last transaction. Each transaction makes it one more.
	generation uint32
}

// openTables needs the namespace only for as long as it takes.
func openTables(ns netns.NsHandle) (*tables, error) {
	conn, err := nftables.New(nftables.AsLasting(), nftables.WithNetNSFd(int(ns)), nftables.WithSockOptions(func(c *mdnetlink.Conn) error {
		// The batch goes out as one message, and every part of it is acknowledged.
		return errors.Join(c.SetWriteBuffer(batchBuffer), c.SetReadBuffer(batchBuffer))
	}))
	if err != nil {
		return nil, fmt.Errorf("open nftables: %w", err)
	}
	return &tables{conn: conn, table: ourTable()}, nil
}

// IPv6 tells whether the kernel has it.
func IPv6() bool {
	_, err := os.Stat("/proc/net/if_inet6")
	return err == nil
}

// ourTable is for both kinds of addresses, or for IPv4 where the kernel knows no other.
func ourTable() *nftables.Table {
	if !IPv6() {
		return &nftables.Table{Name: tableName, Family: nftables.TableFamilyIPv4}
	}
	return &nftables.Table{Name: tableName, Family: nftables.TableFamilyINet}
}

func (t *tables) close() error {
	if t.tracking != nil {
		t.tracking.Close()
	}
	return t.conn.CloseLasting()
}

// flows is the way to the namespace's connection tracking.
func (t *tables) flows(ns netns.NsHandle) (*netlink.Handle, error) {
	if t.tracking == nil {
		h, err := netlink.NewHandleAt(ns, unix.NETLINK_NETFILTER)
		if err != nil {
			return nil, fmt.Errorf("open conntrack: %w", err)
		}
		t.tracking = h
	}
	return t.tracking, nil
}

// replace makes the table hold what rs says and nothing else, whatever it holds now, in one transaction.
func (t *tables) replace(ns netns.NsHandle, rs *ruleset) error {
	// To remove a table costs the kernel ten milliseconds; most namespaces are new and have none.
	if _, err := t.conn.ListTableOfFamily(t.table.Name, t.table.Family); err == nil {
		t.conn.DelTable(t.table)
	}
	t.conn.AddTable(t.table)
	if err := t.change(newRuleset(), rs); err != nil {
		return err
	}
	now, err := generation(ns)
	t.generation = now
	return err
}

// change turns what the table is known to hold of some chains and elements into what it shall hold, in one transaction. All else stays
// as it is, and what stays keeps its state: a change to one service does not start another one's round robin anew.
func (t *tables) change(was, now *ruleset) error {
	tx := &transaction{conn: t.conn, table: t.table, was: was, want: now}
	if err := tx.build(); err != nil {
		return err
	}
	if err := t.conn.Flush(); err != nil {
		return fmt.Errorf("commit nftables transaction: %w", err)
	}
	if tx.changes {
		t.generation++
	}
	return nil
}

// hold tells whether the table has as many rules and elements as rs.
func (t *tables) hold(rs *ruleset) bool {
	for name, c := range rs.chains {
		if rules, err := t.conn.GetRules(t.table, &nftables.Chain{Table: t.table, Name: name}); err != nil || len(rules) != len(c.rules) {
			return false
		}
	}
	for name, s := range rs.sets {
		tx := &transaction{table: t.table}
		if elements, err := t.conn.GetSetElements(tx.kernelSet(name, s)); err != nil || len(elements) != len(s.elements) {
			return false
		}
	}
	return true
}

// used is those of the changes whose services connections have gone to by the table's rules.
func (t *tables) used(changes []serviceChange) ([]serviceChange, error) {
	declared, used := newRuleset(), map[string]bool{}
	balancing(declared)
	for _, f := range families() {
		tx := &transaction{table: t.table}
		list, err := t.conn.GetSetElements(tx.kernelSet(f.named("used"), declared.sets[f.named("used")]))
		if err != nil {
			return nil, fmt.Errorf("list used services: %w", err)
		}
		for _, e := range list {
			used[string(e.Key)] = true
		}
	}
	return slices.DeleteFunc(changes, func(c serviceChange) bool { return !used[string(c.Key.AsSlice())] }), nil
}

// generation is a number that changes with every change to the namespace's nftables, whoever makes it.
func generation(ns netns.NsHandle) (uint32, error) {
	conn, err := mdnetlink.Dial(unix.NETLINK_NETFILTER, &mdnetlink.Config{NetNS: int(ns)})
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
	return 0, errors.New("no nftables generation was told")
}
