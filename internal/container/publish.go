package container

import (
	"maps"

	"github.com/shoal-dev/shoal/internal/events"
)

// Tell publishes an event about something that was done to a container, or with it, outside of the Engine. It does nothing if there is no such container.
func (e *Engine) Tell(ref, action string, attributes map[string]string) {
	if c, err := e.find(ref); err == nil {
		e.publish(action, c, attributes)
	}
}

// publish publishes an event about a container with the attributes that Docker gives it.
func (e *Engine) publish(action string, c *container, more map[string]string) {
	info, _ := c.snapshot()
	attrs := maps.Clone(info.Labels)
	if attrs == nil {
		attrs = map[string]string{}
	}
	attrs["image"], attrs["name"] = info.Spec.Image, info.Name
	maps.Copy(attrs, more)
	e.Events.Publish(events.Event{Type: "container", Action: action, ID: info.ID, Attributes: attrs})
}
