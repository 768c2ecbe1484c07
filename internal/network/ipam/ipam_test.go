package ipam

import (
	"net/netip"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func TestSubnetsNeverOverlap(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var used []netip.Prefix
		for range rapid.IntRange(1, 40).Draw(t, "networks") {
			p, err := FreeSubnet(DefaultPools(), used)
			if err != nil {
				if len(used) < 31 {
					t.Fatalf("no subnet left after %d of 31", len(used))
				}
				return
			}
			if Overlaps(p, used) {
				t.Fatalf("%s overlaps one of %v", p, used)
			}
			used = append(used, p)
			if i := rapid.IntRange(-20, len(used)-1).Draw(t, "remove"); i >= 0 {
				used = append(used[:i], used[i+1:]...)
			}
		}
	})
}

func TestAddressesAreNeverSharedAndNeverLost(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		pool := NewAllocator(netip.MustParsePrefix("10.9.0.0/28"), netip.Prefix{})
		now := time.Unix(1, 0)
		inUse := map[netip.Addr]bool{}
		for range rapid.IntRange(1, 200).Draw(t, "steps") {
			now = now.Add(time.Duration(rapid.IntRange(0, 3000).Draw(t, "ms")) * time.Millisecond)
			if len(inUse) > 0 && rapid.Bool().Draw(t, "release") {
				for a := range inUse {
					pool.Release(a, now)
					delete(inUse, a)
					break
				}
				continue
			}
			a, err := pool.Take(netip.Addr{}, now)
			switch {
			case err != nil && len(inUse) != 14:
				t.Fatalf("%v with %d of 14 in use", err, len(inUse))
			case err == nil && (inUse[a] || !pool.subnet.Contains(a) || a == pool.subnet.Addr() || a.String() == "10.9.0.15"):
				t.Fatalf("%s is not to be given away", a)
			case err == nil:
				inUse[a] = true
			}
		}
	})
}
