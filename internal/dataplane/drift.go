package dataplane

import (
	"github.com/google/nftables"
)

// Drifted tells whether something that was applied in the node's namespace is gone: a bridge, the mesh's device or the table.
func (p *Plane) Drifted() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	for name := range p.applied.bridges {
		if _, err := p.node.LinkByName(name); err != nil {
			return true
		}
	}
	if p.applied.ingress != nil {
		if _, err := p.node.LinkByName(ingressDevice); err != nil {
			return true
		}
	}
	if p.applied.rules == nil {
		return true
	}
	conn, err := nftables.New(nftables.WithNetNSFd(int(p.home)))
	if err != nil {
		return false
	}
	_, err = conn.ListTableOfFamily(tableName, nftables.TableFamilyIPv4)
	return err != nil
}
