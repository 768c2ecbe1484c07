package encryption

import (
	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"

	"github.com/shoal-dev/shoal/internal/dataplane/config"
	"github.com/shoal-dev/shoal/internal/dataplane/nft"
)

// Rules adds to the node's table what lets VXLAN packets of encrypted networks in and out by the WireGuard interface alone, wherever they are
// addressed. All networks of a node have the same UDP port.
func Rules(rs *nft.Ruleset, c *config.Config) {
	vnis, port := map[uint32]bool{}, uint16(0)
	for _, o := range c.Overlays {
		if o.Encrypted {
			vnis[o.VNI], port = true, o.Port
		}
	}
	if in := c.Ingress; in != nil && in.Encrypted {
		vnis[in.VNI], port = true, in.Port
	}
	if len(vnis) == 0 {
		return
	}
	set := rs.Set("encrypted", nftables.TypeInteger)
	for vni := range vnis {
		set.Add(nft.VNIKey(vni))
	}
	// Before any other rule can accept or change a packet: the chains at -310 (package mesh) only switch connection tracking off.
	const priority = -305
	drop := func(name string, hook *nftables.ChainHook, otherInterface []expr.Any) {
		rs.BaseChain(name, nftables.ChainTypeFilter, hook, priority).
			Rule(nft.L4Proto(unix.IPPROTO_UDP), nft.DPort(port), otherInterface, nft.VXLANVNIIn("encrypted"), nft.Verdict(expr.VerdictDrop))
	}
	drop("clear_in", nftables.ChainHookPrerouting, nft.IIFNameNot(DeviceName))
	drop("clear_out", nftables.ChainHookOutput, nft.OIFNameNot(DeviceName))
}
