package engine

import (
	"encoding/json"
	"strings"
	"time"

	"github.com/google/shlex"
	dockerspec "github.com/moby/docker-image-spec/specs-go/v1"

	"github.com/shoal-dev/shoal/internal/api/server"
)

// applyChanges applies instructions of a Dockerfile, as `--change` has them, to an image's configuration.
func applyChanges(c *imageConfig, changes []string) error {
	for _, change := range changes {
		for line := range strings.Lines(change) {
			instruction, args, _ := strings.Cut(strings.TrimSpace(line), " ")
			if instruction == "" {
				continue
			}
			if err := applyInstruction(c, strings.ToUpper(instruction), strings.TrimSpace(args)); err != nil {
				return err
			}
		}
	}
	return nil
}

func applyInstruction(c *imageConfig, instruction, args string) error {
	if args == "" {
		return server.BadRequest("dockerfile parse error: %s requires at least one argument", instruction)
	}
	switch instruction {
	case "CMD":
		c.Cmd = parseCommand(args)
	case "ENTRYPOINT":
		c.Entrypoint = parseCommand(args)
	case "ENV":
		pairs, err := parsePairs(instruction, args)
		for _, p := range pairs {
			c.Env = withVariable(c.Env, p[0], p[1])
		}
		return err
	case "LABEL":
		pairs, err := parsePairs(instruction, args)
		for _, p := range pairs {
			c.Labels = withKey(c.Labels, p[0], p[1])
		}
		return err
	case "EXPOSE":
		for port := range strings.FieldsSeq(args) {
			if !strings.Contains(port, "/") {
				port += "/tcp"
			}
			c.ExposedPorts = withKey(c.ExposedPorts, port, struct{}{})
		}
	case "VOLUME":
		for _, path := range parseList(args) {
			c.Volumes = withKey(c.Volumes, path, struct{}{})
		}
	case "USER":
		c.User = args
	case "WORKDIR":
		c.WorkingDir = args
	case "STOPSIGNAL":
		c.StopSignal = args
	case "ONBUILD":
		c.OnBuild = append(c.OnBuild, args)
	case "HEALTHCHECK":
		return applyHealthcheck(c, args)
	default:
		return server.BadRequest("%s is not a valid change command", strings.ToLower(instruction))
	}
	return nil
}

// parseList reads a list in JSON (["a", "b"]) or words separated by spaces.
func parseList(text string) []string {
	list := []string{}
	if json.Unmarshal([]byte(text), &list) != nil {
		return strings.Fields(text)
	}
	return list
}

// parseCommand reads a command as a list in JSON (["a", "b"]) or as a line for the shell.
func parseCommand(text string) []string {
	list := []string{}
	if json.Unmarshal([]byte(text), &list) != nil {
		return []string{"/bin/sh", "-c", text}
	}
	return list
}

// parsePairs reads "a=b c='d e'", or the old form "a b c".
func parsePairs(instruction, text string) ([][2]string, error) {
	first, rest, _ := strings.Cut(text, " ")
	if !strings.Contains(first, "=") {
		if rest = strings.TrimSpace(rest); rest == "" {
			return nil, server.BadRequest("dockerfile parse error: %s must have two arguments", instruction)
		}
		return [][2]string{{first, rest}}, nil
	}
	words, err := shlex.Split(text)
	if err != nil {
		return nil, server.BadRequest("dockerfile parse error: %s: %v", instruction, err)
	}
	var pairs [][2]string
	for _, w := range words {
		key, value, ok := strings.Cut(w, "=")
		if !ok || key == "" {
			return nil, server.BadRequest("dockerfile parse error: can't find = in %q. Must be of the form: name=value", w)
		}
		pairs = append(pairs, [2]string{key, value})
	}
	return pairs, nil
}

// withVariable sets a variable of an environment; one that is set already keeps its place in the list.
func withVariable(env []string, key, value string) []string {
	for i, v := range env {
		if strings.HasPrefix(v, key+"=") {
			env[i] = key + "=" + value
			return env
		}
	}
	return append(env, key+"="+value)
}

// withKey sets a key of a map, which may be nil at first.
func withKey[V any](m map[string]V, key string, value V) map[string]V {
	if m == nil {
		m = map[string]V{}
	}
	m[key] = value
	return m
}

// applyHealthcheck reads "NONE" or "[--interval=…] CMD …".
func applyHealthcheck(c *imageConfig, text string) error {
	if text == "NONE" {
		c.Healthcheck = &dockerspec.HealthcheckConfig{Test: []string{"NONE"}}
		return nil
	}
	h := &dockerspec.HealthcheckConfig{}
	durations := map[string]*time.Duration{"interval": &h.Interval, "timeout": &h.Timeout, "start-period": &h.StartPeriod, "start-interval": &h.StartInterval}
	for strings.HasPrefix(text, "--") {
		option, rest, _ := strings.Cut(text, " ")
		key, value, _ := strings.Cut(strings.TrimPrefix(option, "--"), "=")
		text = strings.TrimSpace(rest)
		d, err := time.ParseDuration(value)
		if to := durations[key]; to == nil || err != nil {
			return server.BadRequest("dockerfile parse error: HEALTHCHECK %s", option)
		}
		*durations[key] = d
	}
	command, ok := strings.CutPrefix(text, "CMD ")
	if !ok {
		return server.BadRequest("dockerfile parse error: unknown type %q in HEALTHCHECK (try CMD)", text)
	}
	h.Test = []string{"CMD-SHELL", command}
	list := []string{}
	if json.Unmarshal([]byte(command), &list) == nil {
		h.Test = append([]string{"CMD"}, list...)
	}
	c.Healthcheck = h
	return nil
}
