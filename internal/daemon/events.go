package daemon

import (
	"context"
	"maps"
	"strconv"

	"github.com/shoal-dev/shoal/internal/events"
	"github.com/shoal-dev/shoal/internal/shoal"
	"github.com/shoal-dev/shoal/internal/store"
)

// publishChanges publishes changes of cluster objects as events, with Docker's attributes, until ctx ends.
func publishChanges(ctx context.Context, s *store.Store, bus *events.Bus) error {
	_, sub := s.Subscribe()
	defer sub.Close()
	for {
		batches, err := sub.Next(ctx)
		if err != nil {
			return err
		}
		for _, b := range batches {
			for _, c := range b.Changes {
				if e, ok := eventOf(c); ok {
					e.Scope = "swarm"
					bus.Publish(e)
				}
			}
		}
	}
}

// eventOf is the event that Docker sends for a change; ok is false for changes that it sends none for.
func eventOf(c store.Change) (e events.Event, ok bool) {
	e = events.Event{ID: c.ID, Attributes: map[string]string{}}
	switch {
	case c.Old == nil:
		e.Action = "create"
	case c.New == nil:
		e.Action = "remove"
	default:
		e.Action = "update"
	}
	object := c.New
	if object == nil {
		object = c.Old
	}
	switch o := object.(type) {
	case *shoal.Service:
		e.Type, e.Attributes["name"] = "service", o.Spec.Name
		old, _ := c.Old.(*shoal.Service)
		return e, e.Action != "update" || serviceDifference(old, o, e.Attributes)
	case *shoal.Node:
		e.Type, e.Attributes["name"] = "node", o.Description.Hostname
		old, _ := c.Old.(*shoal.Node)
		return e, e.Action != "update" || nodeDifference(old, o, e.Attributes)
	case *shoal.Network:
		e.Type, e.Attributes["name"], e.Attributes["type"] = "network", o.Spec.Name, o.Spec.Driver
		return e, e.Action != "update"
	case *shoal.Secret:
		e.Type, e.Attributes["name"] = "secret", o.Name
		return e, true
	case *shoal.Config:
		e.Type, e.Attributes["name"] = "config", o.Name
		return e, true
	default:
		return e, false
	}
}

// addDifference adds a value that has changed to the attributes of an event, in Docker's form: "replicas.old" and "replicas.new". It tells
// whether it has changed.
func addDifference(attributes map[string]string, name, old, now string) bool {
	if old == now {
		return false
	}
	attributes[name+".old"], attributes[name+".new"] = old, now
	return true
}

// serviceDifference adds what has changed in a service to the attributes. It tells whether there is an event to send: changes that the
// orchestrator makes for itself are none.
func serviceDifference(old, now *shoal.Service, attributes map[string]string) bool {
	changed := addDifference(attributes, "updatestate", updateState(old), updateState(now))
	if now.Spec.Mode.Replicated != nil && old.Spec.Mode.Replicated != nil {
		changed = addDifference(attributes, "replicas", strconv.FormatUint(old.Spec.Replicas(), 10), strconv.FormatUint(now.Spec.Replicas(), 10)) || changed
	}
	if old.Spec.Task.Container != nil && now.Spec.Task.Container != nil {
		changed = addDifference(attributes, "image", old.Spec.Task.Container.Image, now.Spec.Task.Container.Image) || changed
	}
	return changed || old.SpecVersion != now.SpecVersion
}

func updateState(s *shoal.Service) string {
	if s.UpdateStatus == nil {
		return ""
	}
	return string(s.UpdateStatus.State)
}

// nodeDifference adds what has changed in a node to the attributes. It tells whether there is an event to send.
func nodeDifference(old, now *shoal.Node, attributes map[string]string) bool {
	changed := addDifference(attributes, "state", string(old.Status.State), string(now.Status.State))
	changed = addDifference(attributes, "availability", string(old.Spec.Availability), string(now.Spec.Availability)) || changed
	changed = addDifference(attributes, "role", string(old.Spec.Role), string(now.Spec.Role)) || changed
	return changed || old.Spec.Name != now.Spec.Name || !maps.Equal(old.Spec.Labels, now.Spec.Labels)
}
