package shoal

import (
	"fmt"
	"net/netip"
	"regexp"
	"strings"
)

// Constraint is one condition on the nodes that a task may run on: "node.labels.disk==ssd".
type Constraint struct {
	Key   string
	Not   bool // != instead of ==
	Value string
}

var (
	constraintKey   = regexp.MustCompile(`^(?i)[a-z_][a-z0-9\-_.]+$`)
	constraintValue = regexp.MustCompile(`^(?i)[a-z0-9:\-_\s\.\*\(\)\?\+\[\]\\\^\$\|\/]+$`)
)

// ParseConstraints reads constraints as users write them, such as "node.role!=manager". Its errors have Docker's texts.
func ParseConstraints(texts []string) ([]Constraint, error) {
	var all []Constraint
	for _, text := range texts {
		c := Constraint{}
		key, value, found := strings.Cut(text, "==")
		if other, v, ok := strings.Cut(text, "!="); ok && (!found || len(other) < len(key)) {
			key, value, found, c.Not = other, v, true, true
		}
		if !found {
			return nil, fmt.Errorf("constraint expected one operator from ==, !=")
		}
		c.Key, c.Value = strings.TrimSpace(key), strings.TrimSpace(value)
		if !constraintKey.MatchString(c.Key) {
			return nil, fmt.Errorf("key '%s' is invalid", c.Key)
		}
		if !constraintValue.MatchString(c.Value) {
			return nil, fmt.Errorf("value '%s' is invalid", c.Value)
		}
		all = append(all, c)
	}
	return all, nil
}

// SatisfiedBy tells whether the node meets the constraint. Keys and values are compared without regard to case, the names of
// labels with it. No node meets a constraint on an unknown key.
func (c Constraint) SatisfiedBy(n *Node) bool {
	switch key := strings.ToLower(c.Key); key {
	case "node.ip":
		return c.matchIP(n.Status.Addr)
	case "node.platform.arch":
		return strings.EqualFold(NormalArchitecture(n.Description.Platform.Architecture), NormalArchitecture(c.Value)) != c.Not
	}
	value, known := NodeAttribute(n, c.Key)
	return known && strings.EqualFold(value, c.Value) != c.Not
}

func (c Constraint) matchIP(ip netip.Addr) bool {
	if !ip.IsValid() {
		return c.Not
	}
	if want, err := netip.ParseAddr(c.Value); err == nil {
		return (ip == want) != c.Not
	}
	if subnet, err := netip.ParsePrefix(c.Value); err == nil {
		return subnet.Contains(ip) != c.Not
	}
	return false
}

// NodeAttribute is the value of an attribute of a node, by the key that constraints and placement preferences name it with, such as
// "node.hostname" or "node.labels.zone". A label that is not set is empty; false means that no node has an attribute of that key.
func NodeAttribute(n *Node, key string) (string, bool) {
	lower := strings.ToLower(key)
	switch lower {
	case "node.id":
		return string(n.ID), true
	case "node.hostname":
		return n.Description.Hostname, true
	case "node.role":
		return string(n.Role), true
	case "node.platform.os":
		return n.Description.Platform.OS, true
	case "node.platform.arch":
		return n.Description.Platform.Architecture, true
	case "node.ip":
		return TextOf(n.Status.Addr), true
	}
	const node, engine = "node.labels.", "engine.labels."
	switch {
	case strings.HasPrefix(lower, node):
		return n.Spec.Labels[key[len(node):]], true
	case strings.HasPrefix(lower, engine):
		return n.Description.EngineLabels[key[len(engine):]], true
	}
	return "", false
}

// NormalArchitecture is Go's name for a processor architecture that the kernel may call otherwise: "amd64" for "x86_64".
func NormalArchitecture(arch string) string {
	switch strings.ToLower(arch) {
	case "x86_64", "x86-64":
		return "amd64"
	case "aarch64":
		return "arm64"
	case "i386", "i686":
		return "386"
	}
	return strings.ToLower(arch)
}
