package cluster

import (
	"path"
	"strconv"
	"strings"
	"time"

	"github.com/shoal-dev/shoal/internal/shoal"
)

// validateTemplates refuses templates that no node could expand.
func validateTemplates(c *shoal.ContainerSpec) error {
	texts := append([]string{c.Hostname}, c.Env...)
	for _, m := range c.Mounts {
		texts = append(texts, m.Source, m.Target)
	}
	for _, text := range texts {
		if _, err := (shoal.TemplateFacts{}).Expand(text); err != nil {
			return shoal.InvalidArgument("%v", err)
		}
	}
	return nil
}

func validateMounts(c *shoal.ContainerSpec) error {
	seen := map[string]bool{}
	for _, m := range c.Mounts {
		switch {
		case seen[m.Target]:
			return shoal.InvalidArgument("ContainerSpec: duplicate mount point: %s", m.Target)
		case !path.IsAbs(m.Target) && !strings.HasPrefix(m.Target, "{{"):
			return shoal.InvalidArgument("invalid mount target, must be an absolute path: %s", m.Target)
		case m.Type == "bind" && !path.IsAbs(m.Source) && !strings.HasPrefix(m.Source, "{{"):
			return shoal.InvalidArgument("invalid bind mount source, must be an absolute path: %s", m.Source)
		case m.Type == "tmpfs" && m.Source != "":
			return shoal.InvalidArgument("invalid tmpfs source, source must be empty")
		}
		seen[m.Target] = true
	}
	return nil
}

// validateFiles refuses references to secrets and configs that cannot be mounted as files.
func validateFiles(c *shoal.ContainerSpec) error {
	for kind, refs := range map[string][]shoal.FileReference{"secret": c.Secrets, "config": c.Configs} {
		names := map[string]string{} // by target
		for _, ref := range refs {
			if ref.Runtime {
				continue
			}
			if ref.Target == "" {
				return shoal.InvalidArgument("malformed %s reference", kind)
			}
			if other, taken := names[ref.Target]; taken {
				return shoal.InvalidArgument("%s references '%s' and '%s' have a conflicting target: '%s'", kind, other, ref.Name, ref.Target)
			}
			names[ref.Target] = ref.Name
			for _, id := range []string{ref.UID, ref.GID} {
				if _, err := strconv.ParseUint(id, 10, 31); err != nil && id != "" {
					return shoal.InvalidArgument("%s reference '%s': %q is no numeric user or group", kind, ref.Name, id)
				}
			}
		}
	}
	return nil
}

func validateLimits(c *shoal.ContainerSpec) error {
	for _, u := range c.Ulimits {
		if u.Hard != -1 && (u.Soft > u.Hard || u.Soft == -1) {
			return shoal.InvalidArgument("ulimit soft limit must be less than or equal to hard limit: %d > %d", u.Soft, u.Hard)
		}
	}
	return nil
}

func validateHealth(c *shoal.ContainerSpec) error {
	h := c.Healthcheck
	if h == nil {
		return nil
	}
	for _, period := range []struct {
		name string
		time.Duration
	}{{"Interval", h.Interval}, {"Timeout", h.Timeout}, {"StartPeriod", h.StartPeriod}, {"StartInterval", h.StartInterval}} {
		if period.Duration != 0 && period.Duration < time.Millisecond {
			return shoal.InvalidArgument("%s in Healthcheck cannot be less than %v", period.name, time.Millisecond)
		}
	}
	if h.Retries < 0 {
		return shoal.InvalidArgument("Retries in Healthcheck cannot be negative")
	}
	return nil
}
