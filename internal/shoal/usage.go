package shoal

import "net/netip"

// SubnetUsage is how many addresses of a subnet are in use or reserved, and how many can still be given out; a count that does
// not fit is 2^64-1.
type SubnetUsage struct {
	Subnet      netip.Prefix
	InUse, Left uint64
}
