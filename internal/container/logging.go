package container

import (
	"github.com/shoal-dev/shoal/internal/logs"
	"github.com/shoal-dev/shoal/internal/logs/driver"
)

// LogDrivers is the log drivers that containers can have, sorted.
func LogDrivers() []string { return driver.Names() }

// logStart is what a container's log needs for a run, or to go on with one.
func (e *Engine) logStart(c *container, info Info, running bool) logs.Start {
	return logs.Start{
		Options: info.Spec.Log.Options, Running: running, Logger: e.Log,
		Facts: driver.Facts{
			ID: info.ID, Name: info.Name, Command: append([]string{info.Path}, info.Args...), ImageID: info.ImageID, ImageName: info.Spec.Image,
			Created: info.Created, Env: info.Env, Labels: info.Labels,
		},
		Go: func(f func()) { e.inBackground(c, "log driver", f) },
	}
}
