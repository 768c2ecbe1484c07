package config

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/docker/go-units"
)

// Builder is the settings of the cache of builds. Sizes are bytes.
type Builder struct {
	GCOff                      bool
	Reserved, MaxUsed, MinFree int64         // of the default rules; all 0 for what follows from the size of the disk
	Rules                      []BuilderRule // instead of the default rules
}

// BuilderRule is what is to be removed of the cache.
type BuilderRule struct {
	All                        bool
	KeepFor                    time.Duration // what was used within it stays
	Filter                     []string      // in BuildKit's words
	Reserved, MaxUsed, MinFree int64
}

// spaces are the bounds of a rule as the file has them, for the old name of one too.
type spaces struct{ ReservedSpace, MaxUsedSpace, MinFreeSpace, KeepStorage string }

func (s *spaces) read(reserved, maxUsed, minFree *int64, prefix string) error {
	if s.ReservedSpace == "" {
		s.ReservedSpace = s.KeepStorage
	}
	for _, space := range []struct {
		name, value string
		into        *int64
	}{{"reservedSpace", s.ReservedSpace, reserved}, {"maxUsedSpace", s.MaxUsedSpace, maxUsed}, {"minFreeSpace", s.MinFreeSpace, minFree}} {
		if space.value == "" {
			continue
		}
		var err error
		if *space.into, err = units.RAMInBytes(space.value); err != nil {
			return fmt.Errorf("failed to parse %s: %w", prefix+space.name, err)
		}
	}
	return nil
}

// readBuilder reads the value of builder.
func readBuilder(c *Config, raw json.RawMessage) error {
	var given struct {
		GC struct {
			Enabled                                                                            *bool
			DefaultReservedSpace, DefaultMaxUsedSpace, DefaultMinFreeSpace, DefaultKeepStorage string
			Policy                                                                             []struct {
				All    bool
				Filter json.RawMessage
				spaces
			}
		}
		Entitlements map[string]bool
		History      json.RawMessage
	}
	if err := json.Unmarshal(raw, &given); err != nil {
		return err
	}
	b := Builder{GCOff: given.GC.Enabled != nil && !*given.GC.Enabled}
	defaults := spaces{given.GC.DefaultReservedSpace, given.GC.DefaultMaxUsedSpace, given.GC.DefaultMinFreeSpace, given.GC.DefaultKeepStorage}
	if err := defaults.read(&b.Reserved, &b.MaxUsed, &b.MinFree, "default "); err != nil {
		return err
	}
	for _, p := range given.GC.Policy {
		rule := BuilderRule{All: p.All}
		if err := p.read(&rule.Reserved, &rule.MaxUsed, &rule.MinFree, ""); err != nil {
			return err
		}
		filter, err := builderFilter(p.Filter)
		if err == nil {
			err = rule.filter(filter)
		}
		if err != nil {
			return fmt.Errorf("builder gc policy: %w", err)
		}
		b.Rules = append(b.Rules, rule)
	}
	c.Builder = b
	for _, name := range slices.Sorted(maps.Keys(given.Entitlements)) {
		if on := given.Entitlements[name]; on != (name == "network-host") {
			c.Warnings = append(c.Warnings, fmt.Sprintf("builder entitlements %s=%t has no effect: builds may use the host's network if their request asks for it, and have no other entitlement", name, on))
		}
	}
	if len(given.History) > 0 {
		c.Warnings = append(c.Warnings, "builder history has no effect: BuildKit's own bounds hold")
	}
	return nil
}

// filter enters filters, which are those of `docker builder prune`.
func (r *BuilderRule) filter(filter map[string][]string) error {
	var conditions []string
	for _, name := range slices.Sorted(maps.Keys(filter)) {
		if len(filter[name]) != 1 {
			return fmt.Errorf("filter %s: filters expect only one value", name)
		}
		value := filter[name][0]
		switch name {
		case "until", "unused-for":
			var err error
			if r.KeepFor, err = time.ParseDuration(value); err != nil {
				return fmt.Errorf("%q filter expects a duration (e.g., '24h'): %w", name, err)
			}
		case "id":
			conditions = append(conditions, "id~="+value)
		case "parent", "type", "description", "inuse", "shared", "private":
			if value != "" {
				name += "==" + value
			}
			conditions = append(conditions, name)
		default:
			return fmt.Errorf("invalid filter '%s'", name)
		}
	}
	if len(conditions) > 0 {
		r.Filter = []string{strings.Join(conditions, ",")}
	}
	return nil
}

// builderFilter reads ["unused-for=2200h"], or the same as an object of objects, which older files have.
func builderFilter(raw json.RawMessage) (map[string][]string, error) {
	if len(raw) == 0 {
		return nil, nil
	}
	filter := map[string][]string{}
	var list []string
	if json.Unmarshal(raw, &list) == nil {
		for _, text := range list {
			name, value, _ := strings.Cut(text, "=")
			name = strings.ToLower(strings.TrimSpace(name))
			filter[name] = append(filter[name], strings.TrimSpace(value))
		}
		return filter, nil
	}
	var old map[string]map[string]bool
	if err := json.Unmarshal(raw, &old); err != nil {
		return nil, fmt.Errorf("filter: %w", err)
	}
	for name, values := range old {
		filter[name] = slices.Sorted(maps.Keys(values))
	}
	return filter, nil
}
