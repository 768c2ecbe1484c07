package config

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"slices"
	"strings"

	"github.com/spf13/pflag"
)

// Files that are read when --config-file names none. A machine that has a file of shoal's own is configured by that one alone.
const (
	ownFile    = "/etc/shoal/daemon.json"
	dockerFile = "/etc/docker/daemon.json"
)

func defaultFile() string {
	if _, err := os.Stat(ownFile); err == nil {
		return ownFile
	}
	return dockerFile
}

// Flags defines dockerd's flags, which write to c.
func (c *Config) Flags(f *pflag.FlagSet) {
	c.ProbePort = defaultProbePort
	for _, o := range options() {
		if o.flag != "" {
			o.define(f, c, &o)
		}
	}
}

const defaultProbePort = 7946

// Load completes what the flags have set: with the configuration file, with defaults and with warnings. Settings that contradict each other, that are
// malformed or that are refused are errors, in Docker's words.
func (c *Config) Load(f *pflag.FlagSet) error {
	if err := c.readFile(f); err != nil {
		return fmt.Errorf("unable to configure the Docker daemon with file %s: %w", c.File, err)
	}
	for _, o := range options() {
		switch {
		case o.flag == "" || !o.changed(f):
		case o.refused != "":
			return fmt.Errorf("%s is not supported: %s", o.name(), o.refused)
		case o.ignored != "":
			c.ignore(&o)
		}
	}
	return c.complete(f)
}

func (c *Config) ignore(o *option) {
	c.Warnings = append(c.Warnings, o.name()+" has no effect: "+o.ignored)
}

// readFile applies the configuration file. A setting that both it and a flag have is an error; a key that no setting has is a warning.
func (c *Config) readFile(f *pflag.FlagSet) error {
	content, err := os.ReadFile(c.File)
	if errors.Is(err, fs.ErrNotExist) && !f.Changed("config-file") {
		return nil
	}
	if err != nil {
		return err
	}
	settings, err := parseFile(content)
	if err != nil {
		return err
	}
	byKey := map[string]*option{}
	for _, o := range options() {
		if o.key != "-" {
			byKey[o.name()] = &o
		}
	}
	if err := conflicts(settings, f, byKey); err != nil {
		return err
	}
	var unknown []string
	for _, key := range slices.Sorted(maps.Keys(settings)) {
		o := byKey[key]
		if o == nil {
			unknown = append(unknown, key)
			continue
		}
		if err := c.apply(f, o, settings[key]); err != nil {
			return fmt.Errorf("%s: %w", key, err)
		}
	}
	if len(unknown) > 0 {
		c.Warnings = append(c.Warnings, fmt.Sprintf("the following directives of %s don't match any configuration option, and have no effect: %s", c.File, strings.Join(unknown, ", ")))
	}
	return nil
}

// apply sets an option to what the file has for it.
func (c *Config) apply(f *pflag.FlagSet, o *option, raw json.RawMessage) error {
	values, err := o.values(raw)
	if err != nil {
		return err
	}
	flag := o.flag
	switch {
	case flag == "" && o.key == "host-gateway-ip":
		flag = o.key
	case o.read != nil:
		return o.read(c, raw)
	case flag == "":
		if o.ignored != "" {
			c.ignore(o)
		}
		return nil
	}
	for _, v := range values {
		if err := f.Set(flag, v); err != nil {
			return err
		}
	}
	return nil
}

// parseFile reads the file, which may be empty and begin with a byte order mark, as keys with their values.
func parseFile(content []byte) (map[string]json.RawMessage, error) {
	content = bytes.TrimSpace(bytes.TrimPrefix(content, []byte("\xef\xbb\xbf")))
	if len(content) == 0 {
		return map[string]json.RawMessage{}, nil
	}
	var settings map[string]json.RawMessage
	if err := json.Unmarshal(content, &settings); err != nil {
		return nil, err
	}
	return flatten(settings)
}

// flatten moves the members of "proxies" up, where their flags are.
func flatten(settings map[string]json.RawMessage) (map[string]json.RawMessage, error) {
	raw, ok := settings["proxies"]
	if !ok {
		return settings, nil
	}
	var proxies map[string]json.RawMessage
	if err := json.Unmarshal(raw, &proxies); err != nil {
		return nil, fmt.Errorf("proxies: %w", err)
	}
	delete(settings, "proxies")
	maps.Copy(settings, proxies)
	return settings, nil
}

// conflicts is an error that names the settings that are given twice.
func conflicts(settings map[string]json.RawMessage, f *pflag.FlagSet, byKey map[string]*option) error {
	const both = "host-gateway-ips"
	if _, old := settings["host-gateway-ip"]; old && settings[both] != nil {
		return fmt.Errorf("host-gateway-ip and %s must not both be specified in the config file", both)
	}
	var twice []string
	for _, key := range slices.Sorted(maps.Keys(settings)) {
		flag := f.Lookup(key)
		if o := byKey[key]; o != nil && o.flag != "" {
			flag = f.Lookup(o.flag)
		}
		if flag == nil || !flag.Changed || key == "runtimes" { // those of the file and of flags add up
			continue
		}
		fromFlag, fromFile := flag.Value.String(), shown(settings[key])
		if strings.HasSuffix(key, "-proxy") {
			fromFlag, fromFile = MaskCredentials(fromFlag), MaskCredentials(fromFile)
		}
		twice = append(twice, fmt.Sprintf("%s: (from flag: %s, from file: %s)", key, fromFlag, fromFile))
	}
	if len(twice) > 0 {
		return fmt.Errorf("the following directives are specified both as a flag and in the configuration file: %s", strings.Join(twice, ", "))
	}
	return nil
}

// shown is a value of the file as dockerd shows it.
func shown(raw json.RawMessage) string {
	var v any
	if json.Unmarshal(raw, &v) != nil {
		return string(raw)
	}
	return fmt.Sprint(v)
}
