package config

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/docker/go-units"
	"github.com/spf13/pflag"

	"github.com/shoal-dev/shoal/internal/shoal"
)

// binder keeps the value of an option in a Config. values turns what the configuration file has for it into what Set takes, once for each element.
type binder struct {
	define func(f *pflag.FlagSet, c *Config, o *option)
	values func(raw json.RawMessage) ([]string, error)
}

// isText, isBool, isNumber and isList are the values functions of the kinds of JSON.
func isText(raw json.RawMessage) ([]string, error) {
	var v string
	err := json.Unmarshal(raw, &v)
	return []string{v}, err
}

func isBool(raw json.RawMessage) ([]string, error) {
	var v bool
	err := json.Unmarshal(raw, &v)
	return []string{strconv.FormatBool(v)}, err
}

func isNumber(raw json.RawMessage) ([]string, error) {
	var v int64
	err := json.Unmarshal(raw, &v)
	return []string{strconv.FormatInt(v, 10)}, err
}

func isList(raw json.RawMessage) ([]string, error) {
	var v []string
	err := json.Unmarshal(raw, &v)
	return v, err
}

// isPairs is for objects whose flag is given as NAME=VALUE.
func isPairs(raw json.RawMessage) ([]string, error) {
	var v map[string]any
	if err := json.Unmarshal(raw, &v); err != nil {
		return nil, err
	}
	var out []string
	for _, k := range slices.Sorted(maps.Keys(v)) {
		out = append(out, fmt.Sprintf("%s=%v", k, v[k]))
	}
	return out, nil
}

// isAnything is for keys whose value has no effect.
func isAnything(json.RawMessage) ([]string, error) { return nil, nil }

// anyText is text that may be written as a JSON number too, as sizes may.
func anyText(raw json.RawMessage) ([]string, error) {
	if out, err := isNumber(raw); err == nil {
		return out, nil
	}
	return isText(raw)
}

func text(field func(*Config) *string, def string) binder {
	return binder{func(f *pflag.FlagSet, c *Config, o *option) { f.StringVarP(field(c), o.flag, o.short, def, o.usage) }, isText}
}

func toggle(field func(*Config) *bool, def bool) binder {
	return binder{func(f *pflag.FlagSet, c *Config, o *option) { f.BoolVarP(field(c), o.flag, o.short, def, o.usage) }, isBool}
}

// inverse is a toggle that is kept as its opposite, so that the zero Config is the default.
func inverse(field func(*Config) *bool) binder {
	return binder{func(f *pflag.FlagSet, c *Config, o *option) {
		v := custom{kind: "bool", text: "true"}
		v.set = func(s string) (string, error) {
			on, err := strconv.ParseBool(s)
			*field(c) = !on
			return strconv.FormatBool(on), err
		}
		f.VarP(&v, o.flag, o.short, o.usage)
		f.Lookup(o.flag).NoOptDefVal = "true"
	}, isBool}
}

func number(field func(*Config) *int, def int) binder {
	return binder{func(f *pflag.FlagSet, c *Config, o *option) { f.IntVarP(field(c), o.flag, o.short, def, o.usage) }, isNumber}
}

func list(field func(*Config) *[]string) binder {
	return binder{func(f *pflag.FlagSet, c *Config, o *option) {
		f.StringArrayVarP(field(c), o.flag, o.short, nil, o.usage)
	}, isList}
}

// each is a flag that can be given several times, and whose values parse keeps.
func each(kind string, parse func(c *Config, value string) error, values func(json.RawMessage) ([]string, error)) binder {
	return binder{func(f *pflag.FlagSet, c *Config, o *option) {
		var given []string
		v := custom{kind: kind, text: ""}
		v.set = func(s string) (string, error) {
			if err := parse(c, s); err != nil {
				return "", err
			}
			given = append(given, s)
			return "[" + strings.Join(given, " ") + "]", nil
		}
		f.VarP(&multiple{custom: v, given: &given}, o.flag, o.short, o.usage)
	}, values}
}

// pairs is a flag that is given as NAME=VALUE, several times.
func pairs(field func(*Config) *map[string]string) binder {
	return each("map", func(c *Config, value string) error {
		k, v, _ := strings.Cut(value, "=")
		put(field(c), k, v)
		return nil
	}, isPairs)
}

func put[V any](m *map[string]V, k string, v V) {
	if *m == nil {
		*m = map[string]V{}
	}
	(*m)[k] = v
}

// addrs is a flag of IP addresses.
func addrs(field func(*Config) *[]netip.Addr) binder {
	return each("ip", func(c *Config, value string) error {
		for one := range strings.SplitSeq(value, ",") {
			a, err := netip.ParseAddr(strings.TrimSpace(one))
			if err != nil {
				return fmt.Errorf("invalid IP address: %s", one)
			}
			*field(c) = append(*field(c), a)
		}
		return nil
	}, isList)
}

// parsed is a flag of one value, which parse keeps.
func parsed(kind, def string, parse func(c *Config, value string) error, values func(json.RawMessage) ([]string, error)) binder {
	return binder{func(f *pflag.FlagSet, c *Config, o *option) {
		v := custom{kind: kind, text: def}
		v.set = func(s string) (string, error) { return s, parse(c, s) }
		f.VarP(&v, o.flag, o.short, o.usage)
	}, values}
}

// unused keeps nothing: the option has no effect, and only its value in text is looked at.
func unused(kind, def string, values func(json.RawMessage) ([]string, error)) binder {
	return binder{func(f *pflag.FlagSet, _ *Config, o *option) {
		v := custom{kind: kind, text: def}
		v.set = func(s string) (string, error) {
			if kind == "bool" {
				on, err := strconv.ParseBool(s)
				return strconv.FormatBool(on), err
			}
			return s, nil
		}
		f.VarP(&v, o.flag, o.short, o.usage)
		if kind == "bool" {
			f.Lookup(o.flag).NoOptDefVal = "true"
		}
	}, values}
}

// custom is a pflag.Value whose values set reads.
type custom struct {
	kind, text string
	set        func(string) (text string, err error)
}

// String implements pflag.Value.
func (v *custom) String() string { return v.text }

// Type implements pflag.Value.
func (v *custom) Type() string { return v.kind }

// Set implements pflag.Value.
func (v *custom) Set(s string) error {
	text, err := v.set(s)
	if err == nil {
		v.text = text
	}
	return err
}

// multiple is a custom that can be set several times. It implements pflag.SliceValue, as far as the values can be listed.
type multiple struct {
	custom
	given *[]string
}

// GetSlice implements pflag.SliceValue.
func (v *multiple) GetSlice() []string { return *v.given }

// Append implements pflag.SliceValue.
func (v *multiple) Append(s string) error { return v.Set(s) }

// Replace implements pflag.SliceValue. What was set before is not taken back.
func (v *multiple) Replace(all []string) error {
	for _, s := range all {
		if err := v.Set(s); err != nil {
			return err
		}
	}
	return nil
}

// size is an amount of memory, such as "64M".
func size(field func(*Config) *int64, def string) binder {
	return parsed("bytes", def, func(c *Config, value string) (err error) {
		*field(c), err = units.RAMInBytes(value)
		return err
	}, anyText)
}

// parseUlimit reads "nofile=1024:2048".
func parseUlimit(c *Config, value string) error {
	u, err := units.ParseUlimit(value)
	if err != nil {
		return err
	}
	put(&c.Ulimits, u.Name, shoal.Ulimit{Name: u.Name, Soft: u.Soft, Hard: u.Hard})
	return nil
}

// ulimits is the value of default-ulimits: {"nofile": {"Name": "nofile", "Hard": 64000, "Soft": 64000}}.
func ulimits(raw json.RawMessage) ([]string, error) {
	var all map[string]units.Ulimit
	if err := json.Unmarshal(raw, &all); err != nil {
		return nil, err
	}
	var out []string
	for _, name := range slices.Sorted(maps.Keys(all)) {
		out = append(out, fmt.Sprintf("%s=%d:%d", name, all[name].Soft, all[name].Hard))
	}
	return out, nil
}

// parseFeature reads "name=true", or "name" for the same.
func parseFeature(c *Config, value string) error {
	k, v, given := strings.Cut(value, "=")
	on := !given
	if given {
		var err error
		if on, err = strconv.ParseBool(v); err != nil {
			return err
		}
	}
	put(&c.Features, k, on)
	switch {
	case k == "buildkit", k == "containerd-snapshotter" && on:
	case k == "containerd-snapshotter":
		c.Warnings = append(c.Warnings, "features containerd-snapshotter=false has no effect: images are in containerd's stores")
	default:
		c.Warnings = append(c.Warnings, fmt.Sprintf("features %s=%t has no effect: there is nothing that it turns on or off", k, on))
	}
	return nil
}

// parseNetworkOpt reads "driver=option=value".
func parseNetworkOpt(c *Config, value string) error {
	driver, opt, _ := strings.Cut(value, "=")
	k, v, ok := strings.Cut(opt, "=")
	if !ok || driver == "" || k == "" {
		return fmt.Errorf("invalid value: '%s' (should be key=value)", opt)
	}
	if c.DefaultNetworkOpts[driver] == nil {
		put(&c.DefaultNetworkOpts, driver, map[string]string{})
	}
	c.DefaultNetworkOpts[driver][k] = v
	return nil
}

// networkOpts is the value of default-network-opts: {"bridge": {"com.docker.network.driver.mtu": "1400"}}.
func networkOpts(raw json.RawMessage) ([]string, error) {
	var all map[string]map[string]string
	if err := json.Unmarshal(raw, &all); err != nil {
		return nil, err
	}
	var out []string
	for driver, opts := range all {
		for k, v := range opts {
			out = append(out, driver+"="+k+"="+v)
		}
	}
	slices.Sort(out)
	return out, nil
}

// addressPools is the value of default-address-pools: [{"base": "10.0.0.0/8", "size": 24}].
func addressPools(raw json.RawMessage) ([]string, error) {
	var all []struct {
		Base string `json:"base"`
		Size int    `json:"size"`
	}
	if err := json.Unmarshal(raw, &all); err != nil {
		return nil, err
	}
	var out []string
	for _, p := range all {
		out = append(out, fmt.Sprintf("base=%s,size=%d", p.Base, p.Size))
	}
	return out, nil
}
