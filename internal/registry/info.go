package registry

import (
	"net/netip"
	"slices"

	"github.com/moby/moby/api/types/registry"
)

// Info is what `docker info` shows of the settings.
func (c *Client) Info() *registry.ServiceConfig {
	settings := c.Settings()
	info := &registry.ServiceConfig{
		InsecureRegistryCIDRs: []netip.Prefix{netip.MustParsePrefix("::1/128"), netip.MustParsePrefix("127.0.0.0/8")},
		IndexConfigs:          map[string]*registry.IndexInfo{hubHost: {Name: hubHost, Mirrors: slices.Concat([]string{}, settings.Mirrors), Secure: true, Official: true}},
		Mirrors:               slices.Concat([]string{}, settings.Mirrors),
	}
	for _, entry := range settings.Insecure {
		if prefix, err := netip.ParsePrefix(entry); err == nil {
			info.InsecureRegistryCIDRs = append(info.InsecureRegistryCIDRs, prefix)
			continue
		}
		info.IndexConfigs[entry] = &registry.IndexInfo{Name: entry, Mirrors: []string{}}
	}
	return info
}
