package container

import (
	"cmp"
	"slices"
	"time"

	"github.com/shoal-dev/shoal/internal/shoal"
)

// Docker's defaults and limits of health checks.
const (
	defaultProbeInterval = 30 * time.Second
	defaultProbeTimeout  = 30 * time.Second
	defaultStartInterval = 5 * time.Second
	defaultProbeRetries  = 3
	maxProbeOutput       = 4096 // bytes
	maxProbeResults      = 5
)

// hasHealthcheck reports whether there is a health check. The test "NONE" is a spec's way to turn the image's off.
func hasHealthcheck(h *shoal.Healthcheck) bool {
	return h != nil && len(h.Test) > 0 && h.Test[0] != "NONE"
}

// withProbeDefaults returns a health check with Docker's defaults for what is zero.
func withProbeDefaults(check shoal.Healthcheck) shoal.Healthcheck {
	check.Interval = cmp.Or(check.Interval, defaultProbeInterval)
	check.Timeout = cmp.Or(check.Timeout, defaultProbeTimeout)
	check.StartInterval = cmp.Or(check.StartInterval, defaultStartInterval)
	check.Retries = cmp.Or(check.Retries, defaultProbeRetries)
	return check
}

// watchHealth starts a goroutine that probes a running container until it ends. It does nothing for one without a health check.
func (e *Engine) watchHealth(c *container) {
	info, _, ended := c.currentTask()
	if !hasHealthcheck(info.Healthcheck) {
		return
	}
	check := withProbeDefaults(*info.Healthcheck)
	e.inBackground(c, "health checks", func() {
		ctx, cancel := e.untilClosed()
		defer cancel()
		for {
			now, _ := c.snapshot()
			pause := check.Interval
			if now.State.Health != nil && now.State.Health.Status == HealthStarting && time.Since(now.State.StartedAt) < check.StartPeriod {
				pause = min(pause, check.StartInterval)
			}
			if waitFor(ctx, ended, pause) || ctx.Err() != nil {
				return
			}
			if now, _ := c.snapshot(); now.State.Status == Running {
				e.recordProbe(c, check, e.probe(ctx, c, check, ended))
			}
		}
	})
}

// recordProbe records the result of a health check and publishes an event if the container's health has changed.
func (e *Engine) recordProbe(c *container, check shoal.Healthcheck, p Probe) {
	var before, after string
	e.update(c, func(i *Info) {
		if !running(i.State.Status) || i.State.Health == nil {
			return
		}
		h := *i.State.Health
		before = h.Status
		h.Log = append(slices.Clone(h.Log[max(0, len(h.Log)-maxProbeResults+1):]), p)
		switch {
		case p.ExitCode == 0:
			h.Status, h.FailingStreak = Healthy, 0
		case h.Status == HealthStarting && p.Start.Sub(i.State.StartedAt) < check.StartPeriod: // failures do not count yet
		default:
			if h.FailingStreak++; h.FailingStreak >= check.Retries {
				h.Status = Unhealthy
			}
		}
		after = h.Status
		i.State.Health = &h
	})
	if before != after {
		e.publish("health_status: "+after, c, nil)
	}
}
