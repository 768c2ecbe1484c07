package netns

import (
	"errors"
	"fmt"
	"os"
	"strings"
)

// Sysctl reads a setting of the namespace that the calling thread is in. The key's parts are separated by slashes: "net/ipv4/ip_forward".
func Sysctl(key string) (string, error) {
	text, err := os.ReadFile("/proc/sys/" + key)
	return strings.TrimSpace(string(text)), err
}

// SetSysctl writes a setting of the namespace that the calling thread is in, unless it has the value already.
func SetSysctl(key, value string) error {
	if now, err := Sysctl(key); err == nil && now == value {
		return nil
	}
	return os.WriteFile("/proc/sys/"+key, []byte(value), 0o644)
}

// HasIPv6 tells whether the kernel has IPv6.
func HasIPv6() bool {
	_, err := os.Stat("/proc/net/if_inet6")
	return err == nil
}

// EnableIPv6 prepares an interface of the calling thread's namespace for addresses that we assign: none is tested for duplicates, none comes from
// a router.
func EnableIPv6(device string) error {
	dir := "net/ipv6/conf/" + device + "/"
	return errors.Join(SetSysctl(dir+"disable_ipv6", "0"), SetSysctl(dir+"accept_dad", "0"), SetSysctl(dir+"accept_ra", "0"))
}

// ForwardIPv4 makes the namespace of the calling thread forward IPv4 packets.
func ForwardIPv4() error { return SetSysctl("net/ipv4/ip_forward", "1") }

// ForwardsIPv4 tells whether the namespace of the calling thread forwards IPv4 packets.
func ForwardsIPv4() (bool, error) {
	value, err := Sysctl("net/ipv4/ip_forward")
	return value != "0", err
}

// ForwardIPv6 makes the namespace of the calling thread forward IPv6 packets. A kernel that forwards ignores router advertisements on interfaces
// with accept_ra=1; those are set to 2, so that the node keeps the addresses and routes that it has from a router.
func ForwardIPv6() error {
	const conf = "net/ipv6/conf"
	if now, err := Sysctl(conf + "/all/forwarding"); err == nil && now == "1" {
		return nil
	}
	devices, err := os.ReadDir("/proc/sys/" + conf)
	if err != nil {
		return fmt.Errorf("list interfaces: %w", err)
	}
	for _, d := range devices {
		key := conf + "/" + d.Name() + "/accept_ra"
		if now, err := Sysctl(key); err == nil && now == "1" {
			if err := SetSysctl(key, "2"); err != nil {
				return err
			}
		}
	}
	return SetSysctl(conf+"/all/forwarding", "1")
}
