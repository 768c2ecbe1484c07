package shoal

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// PublishLabel is the prefix of the labels of a service that restrict its published ports: "shoal.publish.8080.allow",
// "shoal.publish.53/udp.host-ip".
const PublishLabel = "shoal.publish."

// PublishRules reads the rules of published ports from a service's labels. The keys of the map are elements of ports, which are those of
// the service's EndpointSpec. A label that cannot be read, or that names a port which the service does not publish, is an error.
func PublishRules(labels map[string]string, ports []Port) (map[Port]PublishRule, error) {
	rules := map[Port]PublishRule{}
	for _, label := range slices.Sorted(maps.Keys(labels)) {
		rest, ok := strings.CutPrefix(label, PublishLabel)
		if !ok {
			continue
		}
		at, field, _ := strings.Cut(rest, ".")
		number, protocol, named := strings.Cut(at, "/")
		if !named {
			protocol = string(TCP)
		}
		published, err := strconv.ParseUint(number, 10, 16)
		if err != nil || published == 0 {
			return nil, fmt.Errorf("invalid label %s: %q is no published port", label, at)
		}
		i := slices.IndexFunc(ports, func(p Port) bool { return uint64(p.Published) == published && string(p.Protocol) == protocol })
		if i < 0 {
			return nil, fmt.Errorf("invalid label %s: the service does not publish port %d/%s", label, published, protocol)
		}
		rule := rules[ports[i]]
		if err := rule.set(field, labels[label], ports[i].Mode); err != nil {
			return nil, fmt.Errorf("invalid label %s: %w", label, err)
		}
		rules[ports[i]] = rule
	}
	return rules, nil
}

// set reads the value of one label into a field of the rule.
func (r *PublishRule) set(field, value string, mode PublishMode) error {
	if mode == PublishHost && field != "host-ip" {
		return fmt.Errorf("a port in host mode takes host-ip only")
	}
	switch field {
	case "host-ip":
		for text := range strings.SplitSeq(value, ",") {
			addr, err := netip.ParseAddr(strings.TrimSpace(text))
			if err != nil || addr.Zone() != "" || addr.IsUnspecified() || mode == PublishHost && !addr.Is4() {
				return fmt.Errorf("%q is no address that a port can be published on", text)
			}
			r.HostIPs = append(r.HostIPs, addr.Unmap())
		}
	case "allow":
		for text := range strings.SplitSeq(value, ",") {
			prefix, err := parsePrefix(strings.TrimSpace(text))
			if err != nil {
				return fmt.Errorf("%q is neither an address nor a prefix", text)
			}
			r.Allow = append(r.Allow, prefix)
		}
	case "snat":
		snat, err := strconv.ParseBool(value)
		if err != nil {
			return fmt.Errorf("%q is neither true nor false", value)
		}
		r.SNAT = snat
	default:
		return fmt.Errorf("%q is none of host-ip, allow and snat", field)
	}
	return nil
}

// parsePrefix reads a prefix, or an address as the prefix of its full length.
func parsePrefix(text string) (netip.Prefix, error) {
	if p, err := netip.ParsePrefix(text); err == nil {
		return p.Masked(), nil
	}
	a, err := netip.ParseAddr(text)
	if err != nil || a.Zone() != "" {
		return netip.Prefix{}, fmt.Errorf("parse prefix %q: no address", text)
	}
	return netip.PrefixFrom(a.Unmap(), a.Unmap().BitLen()), nil
}
