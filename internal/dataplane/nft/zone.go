package nft

import (
	"encoding/binary"
	"fmt"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	mdnetlink "github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"

	"github.com/shoal-dev/shoal/internal/dataplane/netns"
)

// ctDirectionOriginal is IP_CT_DIR_ORIGINAL.
const ctDirectionOriginal = 0

// ZoneValue is a zone of connection tracking as a map of nftables.TypeMark has it for SetOriginalZone.
func ZoneValue(zone uint16) []byte {
	return append(binary.NativeEndian.AppendUint16(nil, zone), 0, 0)
}

// ZoneOf is the zone in a value made by ZoneValue.
func ZoneOf(value []byte) uint16 {
	if len(value) < 2 {
		return 0
	}
	return binary.NativeEndian.Uint16(value)
}

// AppendOriginalZone appends a rule to a chain of the table of that name, which what before matches meets: "ct original zone set", to the zone in register 1. It goes
// by a transaction of its own, past the library, which cannot say "original" here. ns is the table's namespace.
func AppendOriginalZone(ns *netns.Namespace, table, chain string, before ...expr.Any) error {
	t := ownTable(table)
	rule, err := originalZoneRule(t, chain, before)
	if err != nil {
		return fmt.Errorf("encode rule of connection tracking zones: %w", err)
	}
	conn, err := mdnetlink.Dial(unix.NETLINK_NETFILTER, &mdnetlink.Config{NetNS: ns.FD()})
	if err != nil {
		return fmt.Errorf("open nftables: %w", err)
	}
	defer func() { _ = conn.Close() }()
	// A transaction's first and last message name the subsystem that it is for (struct nfgenmsg).
	frame := []byte{unix.AF_UNSPEC, unix.NFNETLINK_V0, 0, unix.NFNL_SUBSYS_NFTABLES}
	_, err = conn.SendMessages([]mdnetlink.Message{
		{Header: mdnetlink.Header{Type: unix.NFNL_MSG_BATCH_BEGIN, Flags: mdnetlink.Request}, Data: frame},
		{Header: mdnetlink.Header{Type: unix.NFNL_SUBSYS_NFTABLES<<8 | unix.NFT_MSG_NEWRULE,
			Flags: mdnetlink.Request | mdnetlink.Acknowledge | mdnetlink.Create | mdnetlink.Append}, Data: rule},
		{Header: mdnetlink.Header{Type: unix.NFNL_MSG_BATCH_END, Flags: mdnetlink.Request}, Data: frame},
	})
	if err == nil {
		_, err = conn.Receive()
	}
	if err != nil {
		return fmt.Errorf("add rule of connection tracking zones: %w", err)
	}
	return nil
}

// originalZoneRule is the message's struct nfgenmsg and attributes.
func originalZoneRule(t *nftables.Table, chain string, before []expr.Any) ([]byte, error) {
	zone, err := mdnetlink.MarshalAttributes([]mdnetlink.Attribute{
		{Type: unix.NFTA_CT_KEY, Data: BigUint32(uint32(expr.CtKeyZONE))},
		{Type: unix.NFTA_CT_SREG, Data: BigUint32(1)},
		{Type: unix.NFTA_CT_DIRECTION, Data: []byte{ctDirectionOriginal}},
	})
	if err != nil {
		return nil, err
	}
	set, err := mdnetlink.MarshalAttributes([]mdnetlink.Attribute{
		{Type: unix.NFTA_EXPR_NAME, Data: []byte("ct\x00")},
		{Type: unix.NLA_F_NESTED | unix.NFTA_EXPR_DATA, Data: zone},
	})
	if err != nil {
		return nil, err
	}
	var list []mdnetlink.Attribute
	for _, e := range before {
		data, err := expr.Marshal(byte(t.Family), e)
		if err != nil {
			return nil, err
		}
		list = append(list, mdnetlink.Attribute{Type: unix.NLA_F_NESTED | unix.NFTA_LIST_ELEM, Data: data})
	}
	expressions, err := mdnetlink.MarshalAttributes(append(list, mdnetlink.Attribute{Type: unix.NLA_F_NESTED | unix.NFTA_LIST_ELEM, Data: set}))
	if err != nil {
		return nil, err
	}
	attrs, err := mdnetlink.MarshalAttributes([]mdnetlink.Attribute{
		{Type: unix.NFTA_RULE_TABLE, Data: []byte(t.Name + "\x00")},
		{Type: unix.NFTA_RULE_CHAIN, Data: []byte(chain + "\x00")},
		{Type: unix.NLA_F_NESTED | unix.NFTA_RULE_EXPRESSIONS, Data: expressions},
	})
	return append([]byte{byte(t.Family), unix.NFNETLINK_V0, 0, 0}, attrs...), err
}

// CountRules is how many rules the kernel has in a chain of the table of that name, also of those that the library cannot read. ns is the table's namespace.
func CountRules(ns *netns.Namespace, table, chain string) (int, error) {
	t := ownTable(table)
	attrs, err := mdnetlink.MarshalAttributes([]mdnetlink.Attribute{
		{Type: unix.NFTA_RULE_TABLE, Data: []byte(table + "\x00")},
		{Type: unix.NFTA_RULE_CHAIN, Data: []byte(chain + "\x00")},
	})
	if err != nil {
		return 0, err
	}
	conn, err := mdnetlink.Dial(unix.NETLINK_NETFILTER, &mdnetlink.Config{NetNS: ns.FD()})
	if err != nil {
		return 0, fmt.Errorf("open nftables: %w", err)
	}
	defer func() { _ = conn.Close() }()
	rules, err := conn.Execute(mdnetlink.Message{
		Header: mdnetlink.Header{Type: unix.NFNL_SUBSYS_NFTABLES<<8 | unix.NFT_MSG_GETRULE, Flags: mdnetlink.Request | mdnetlink.Dump},
		Data:   append([]byte{byte(t.Family), unix.NFNETLINK_V0, 0, 0}, attrs...),
	})
	if err != nil {
		return 0, fmt.Errorf("count rules of %s: %w", chain, err)
	}
	return len(rules), nil
}
