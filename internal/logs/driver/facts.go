// Package driver sends the lines of containers' logs to where log drivers keep them: journald, syslog, fluentd and gelf. It also checks the options of
// all drivers. It reads what it is told of a container and writes to sockets; it keeps no line.
package driver

import (
	"fmt"
	"os"
	"regexp"
	"strings"
	"time"
)

// Facts is what log drivers tell of a container.
type Facts struct {
	ID        string
	Name      string
	Command   []string
	ImageID   string // with its algorithm
	ImageName string
	Created   time.Time
	Env       []string // "NAME=value"
	Labels    map[string]string
}

// Attributes is what the options labels, labels-regex, env and env-regex choose of a container, nil if they choose nothing. The key of each goes through rename,
// which may be nil.
func Attributes(f Facts, options map[string]string, rename func(string) string) (map[string]string, error) {
	all := map[string]string{}
	if err := choose(all, f.Labels, options["labels"], options["labels-regex"], rename); err != nil {
		return nil, err
	}
	env := map[string]string{}
	for _, e := range f.Env {
		if name, value, ok := strings.Cut(e, "="); ok {
			env[name] = value
		}
	}
	if err := choose(all, env, options["env"], options["env-regex"], rename); err != nil {
		return nil, err
	}
	if len(all) == 0 {
		return nil, nil
	}
	return all, nil
}

// choose adds to the entries of from that are named in a list, or match a pattern.
func choose(to, from map[string]string, list, pattern string, rename func(string) string) error {
	add := func(key string) {
		value, ok := from[key]
		if !ok {
			return
		}
		if rename != nil {
			key = rename(key)
		}
		to[key] = value
	}
	if list != "" {
		for key := range strings.SplitSeq(list, ",") {
			add(key)
		}
	}
	if pattern == "" {
		return nil
	}
	re, err := regexp.Compile(pattern)
	if err != nil {
		return err
	}
	for key := range from {
		if re.MatchString(key) {
			add(key)
		}
	}
	return nil
}

// defaultTag is the tag of drivers that need one, unless the option says otherwise.
const defaultTag = "{{.ID}}"

// Tag expands the option tag, or the given template if there is none.
func Tag(f Facts, options map[string]string, otherwise string) (string, error) {
	text := options["tag"]
	if text == "" {
		text = otherwise
	}
	tmpl, err := newTemplate("log-tag", text)
	if err != nil {
		return "", err
	}
	var out strings.Builder
	err = tmpl.Execute(&out, &tagFacts{
		Config: options, ContainerID: f.ID, ContainerName: "/" + f.Name, ContainerImageID: f.ImageID, ContainerImageName: f.ImageName,
		ContainerCreated: f.Created, ContainerEnv: f.Env, ContainerLabels: f.Labels, DaemonName: "docker", facts: f,
	})
	return out.String(), err
}

// tagFacts is what templates of tags can ask for. The names are Docker's.
type tagFacts struct {
	Config             map[string]string
	ContainerID        string
	ContainerName      string
	ContainerImageID   string
	ContainerImageName string
	ContainerCreated   time.Time
	ContainerEnv       []string
	ContainerLabels    map[string]string
	DaemonName         string
	facts              Facts
}

// ID is the short ID of the container.
func (t *tagFacts) ID() string { return short(t.facts.ID) }

// FullID is the ID of the container.
func (t *tagFacts) FullID() string { return t.facts.ID }

// Name is the name of the container.
func (t *tagFacts) Name() string { return t.facts.Name }

// ImageID is the start of the image's ID, 12 characters with the algorithm, as Docker has it.
func (t *tagFacts) ImageID() string { return short(t.facts.ImageID) }

// ImageFullID is the image's ID.
func (t *tagFacts) ImageFullID() string { return t.facts.ImageID }

// ImageName is the image as the user named it.
func (t *tagFacts) ImageName() string { return t.facts.ImageName }

// Command is the command line of the container.
func (t *tagFacts) Command() string { return strings.Join(t.facts.Command, " ") }

// Hostname is the name of the machine.
func (t *tagFacts) Hostname() (string, error) { return hostname() }

// ExtraAttributes is what the options choose of labels and environment; templates call it with nil.
func (t *tagFacts) ExtraAttributes(rename func(string) string) (map[string]string, error) {
	return Attributes(t.facts, t.Config, rename)
}

// short is the first 12 characters of an ID.
func short(id string) string { return id[:min(12, len(id))] }

// hostname is the name of the machine.
func hostname() (string, error) {
	name, err := os.Hostname()
	if err != nil {
		return "", fmt.Errorf("logger: can not resolve hostname: %w", err)
	}
	return name, nil
}
