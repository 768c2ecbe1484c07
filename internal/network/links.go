package network

import (
	"github.com/shoal-dev/shoal/internal/network/etcfiles"
)

// relink tells the containers that are linked to a container its address, which may be another than before it ended. Their environment stays as it was when they
// were started. No sandbox is locked: two containers may be linked to each other.
func (n *Networks) relink(containerID string) {
	n.mu.Lock()
	var linked []string
	if target := n.sandboxes.Get(containerID); target != nil {
		for id, sb := range n.sandboxes.All() {
			if id != containerID && sb.Active && sb.LinkedTo(n.sandboxes, target) {
				linked = append(linked, id)
			}
		}
	}
	n.mu.Unlock()
	for _, id := range linked {
		if err := n.rewriteLinks(id); err != nil {
			n.log.Warn("a container's hosts file cannot be written; it does not find a container that it is linked to and that was started again", "container", id, "err", err)
		}
	}
}

// rewriteLinks brings the lines of a container's hosts file that are of its links up to date.
func (n *Networks) rewriteLinks(containerID string) error {
	sb := n.lockSandbox(containerID, false)
	if sb == nil { // it has ended meanwhile
		return nil
	}
	defer sb.Unlock()
	lines, err := n.linkHosts(sb)
	if err != nil {
		return err
	}
	return etcfiles.Relink(n.records.Dir(containerID), lines)
}
