package config

import (
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/pflag"
)

// complete fills in the default host, makes paths absolute and checks values.
func (c *Config) complete(f *pflag.FlagSet) error {
	if len(c.Hosts) == 0 {
		c.Hosts = []string{DefaultHost}
	}
	for _, path := range []*string{&c.DataRoot, &c.ExecRoot, &c.PidFile} {
		abs, err := filepath.Abs(*path)
		if err != nil {
			return err
		}
		*path = abs
	}
	if f.Changed("tlsverify") || c.TLSVerify { // whether it says true or false
		c.TLS = true
	} else if c.TLS {
		c.TLSVerify = true
	}
	return errors.Join(c.validateDaemon(f), c.validateNetwork(), c.validateContainers())
}

func (c *Config) validateDaemon(f *pflag.FlagSet) error {
	if _, err := parseLevel(c.LogLevel); err != nil {
		return err
	}
	if !slices.Contains([]string{"text", "json"}, c.LogFormat) {
		return fmt.Errorf("invalid log format: %s", c.LogFormat)
	}
	if err := c.validateLabels(); err != nil {
		return err
	}
	for what, n := range map[string]int{"default MTU": c.Bridge.MTU, "max concurrent downloads": c.MaxDownloads, "max concurrent uploads": c.MaxUploads, "max download attempts": c.MaxAttempts} {
		if n < 0 {
			return fmt.Errorf("invalid %s: %d", what, n)
		}
	}
	for i, mirror := range c.RegistryMirrors {
		checked, err := validateMirror(mirror)
		if err != nil {
			return err
		}
		c.RegistryMirrors[i] = checked
	}
	if driver := f.Lookup("storage-driver").Value.String(); !slices.Contains([]string{"", "overlay2", "overlayfs"}, driver) {
		return fmt.Errorf("error initializing graphdriver: driver not supported: %s: containers' file systems are made by the overlayfs snapshotter", driver)
	}
	return nil
}

// validateLabels checks the labels, and drops what is there twice.
func (c *Config) validateLabels() error {
	values := map[string]string{}
	var labels []string
	for _, l := range c.Labels {
		k, v, ok := strings.Cut(l, "=")
		if !ok || k == "" {
			return fmt.Errorf("bad attribute format: %s", l)
		}
		for _, reserved := range []string{"com.docker.", "io.docker.", "org.dockerproject."} {
			if strings.HasPrefix(strings.ToLower(l), reserved) {
				return fmt.Errorf("label %s is not allowed: the namespaces com.docker.*, io.docker.*, and org.dockerproject.* are reserved for internal use", l)
			}
		}
		before, had := values[k]
		if had && before != v {
			return fmt.Errorf("conflict labels for %s=%s and %s=%s", k, v, k, before)
		}
		if !had {
			labels = append(labels, l)
		}
		values[k] = v
	}
	c.Labels = labels
	for _, r := range c.GenericResources {
		if k, v, ok := strings.Cut(r, "="); !ok || k == "" || v == "" {
			return fmt.Errorf("invalid node-generic-resource format `%s` expected `name=value`", r)
		}
	}
	return nil
}

func validateMirror(mirror string) (string, error) {
	if scheme, _, ok := strings.Cut(mirror, "://"); !ok || scheme == "" {
		return "", fmt.Errorf("invalid mirror: no scheme specified for %q: must use either 'https://' or 'http://'", mirror)
	}
	u, err := url.Parse(mirror)
	switch {
	case err != nil:
		return "", fmt.Errorf("invalid mirror: %q is not a valid URI: %w", mirror, err)
	case u.Scheme != "http" && u.Scheme != "https":
		return "", fmt.Errorf("invalid mirror: unsupported scheme %q in %q: must use either 'https://' or 'http://'", u.Scheme, u)
	case u.RawQuery != "" || u.Fragment != "":
		return "", fmt.Errorf("invalid mirror: query or fragment at end of the URI %q", u)
	case u.User != nil:
		return "", fmt.Errorf("invalid mirror: username/password not allowed in URI %q", MaskCredentials(mirror))
	}
	return strings.TrimSuffix(mirror, "/") + "/", nil
}

// MaskCredentials is a URL without its user's name and password.
func MaskCredentials(text string) string {
	u, err := url.Parse(text)
	if err != nil || u.User == nil {
		return text
	}
	u.User = url.UserPassword("xxxxx", "xxxxx")
	return u.String()
}

func (c *Config) validateNetwork() error {
	for _, domain := range c.DNSSearch {
		if strings.Trim(domain, " ") != "." && !strings.ContainsFunc(domain, func(r rune) bool { return r|0x20 >= 'a' && r|0x20 <= 'z' }) {
			return fmt.Errorf("%s is not a valid domain", domain)
		}
	}
	var four, six int
	for _, a := range c.HostGateways {
		if a.Is4() {
			four++
		} else {
			six++
		}
	}
	if four > 1 {
		return errors.New("only one IPv4 host gateway IP address can be specified")
	}
	if six > 1 {
		return errors.New("only one IPv6 host gateway IP address can be specified")
	}
	for _, pool := range c.AddressPools {
		if _, _, err := ParsePool(pool); err != nil {
			return err
		}
	}
	b := &c.Bridge
	if b.Name != "" && (b.IP != "" || b.IP6 != "") {
		return errors.New("You specified -b & --bip, mutually exclusive options. Please specify only one") //nolint:revive,staticcheck // Docker's words
	}
	for what, value := range map[string]string{"bip": b.IP, "bip6": b.IP6, "fixed-cidr": b.FixedCIDR, "fixed-cidr-v6": b.FixedCIDRv6} {
		if _, err := netip.ParsePrefix(value); value != "" && err != nil {
			return fmt.Errorf("invalid %s: invalid CIDR address: %s", what, value)
		}
	}
	if b.HostIP.IsUnspecified() {
		b.HostIP = netip.Addr{}
	}
	return nil
}

func (c *Config) validateContainers() error {
	if !slices.Contains([]string{"", "private", "shareable"}, c.IpcMode) {
		if c.IpcMode == "host" || c.IpcMode == "none" || strings.HasPrefix(c.IpcMode, "container:") {
			return fmt.Errorf(`IPC mode "%s" is not supported as default value; use "shareable" or "private"`, c.IpcMode)
		}
		return fmt.Errorf(`default IPC mode setting (%s) is invalid; use "shareable" or "private"`, c.IpcMode)
	}
	if !slices.Contains([]string{"", "private", "host"}, c.CgroupnsMode) {
		return fmt.Errorf(`invalid default cgroup namespace (%s): use "host" or "private"`, c.CgroupnsMode)
	}
	if _, ok := c.Runtimes[c.DefaultRuntime]; c.DefaultRuntime != "" && c.DefaultRuntime != StockRuntime && c.DefaultRuntime != runcShim && !ok {
		return fmt.Errorf("specified default runtime '%s' does not exist", c.DefaultRuntime)
	}
	return nil
}

// ParsePool reads a value of --default-address-pool: "base=CIDR,size=N", where N is the prefix length of the networks.
func ParsePool(text string) (base netip.Prefix, size int, err error) {
	for field := range strings.SplitSeq(text, ",") {
		key, value, _ := strings.Cut(field, "=")
		switch key {
		case "base":
			base, err = netip.ParsePrefix(value)
		case "size":
			size, err = strconv.Atoi(value)
		default:
			err = fmt.Errorf("unexpected key '%s'", key)
		}
		if err != nil {
			return base, size, fmt.Errorf("invalid default-address-pool %q: %w", text, err)
		}
	}
	if !base.IsValid() || size < base.Bits() || size > base.Addr().BitLen() {
		return base, size, fmt.Errorf("invalid default-address-pool %q", text)
	}
	return base, size, nil
}
