package api

import (
	"encoding/json"
	"net/http"
	"strings"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/shlex"
)

// changeConfig carries the Dockerfile lines of `--change` out on an image's configuration.
func changeConfig(c *v1.Config, changes []string) error {
	for _, change := range changes {
		for line := range strings.Lines(change) {
			word, rest, _ := strings.Cut(strings.TrimSpace(line), " ")
			if word == "" {
				continue
			}
			if err := changeLine(c, strings.ToUpper(word), strings.TrimSpace(rest)); err != nil {
				return err
			}
		}
	}
	return nil
}

func changeLine(c *v1.Config, word, rest string) error {
	if rest == "" {
		return fail(http.StatusBadRequest, "dockerfile parse error: %s requires at least one argument", word)
	}
	switch word {
	case "CMD":
		c.Cmd = commandOf(rest)
	case "ENTRYPOINT":
		c.Entrypoint = commandOf(rest)
	case "ENV":
		pairs, err := pairsOf(word, rest)
		for _, p := range pairs {
			c.Env = withVariable(c.Env, p[0], p[1])
		}
		return err
	case "LABEL":
		pairs, err := pairsOf(word, rest)
		for _, p := range pairs {
			c.Labels = with(c.Labels, p[0], p[1])
		}
		return err
	case "EXPOSE":
		for port := range strings.FieldsSeq(rest) {
			if !strings.Contains(port, "/") {
				port += "/tcp"
			}
			c.ExposedPorts = with(c.ExposedPorts, port, struct{}{})
		}
	case "VOLUME":
		for _, path := range listOf(rest) {
			c.Volumes = with(c.Volumes, path, struct{}{})
		}
	case "USER":
		c.User = rest
	case "WORKDIR":
		c.WorkingDir = rest
	case "STOPSIGNAL":
		c.StopSignal = rest
	case "ONBUILD":
		c.OnBuild = append(c.OnBuild, rest)
	case "HEALTHCHECK":
		return changeHealth(c, rest)
	default:
		return fail(http.StatusBadRequest, "%s is not a valid change command", strings.ToLower(word))
	}
	return nil
}

// listOf reads ["a", "b"], or words.
func listOf(text string) []string {
	list := []string{}
	if json.Unmarshal([]byte(text), &list) != nil {
		return strings.Fields(text)
	}
	return list
}

// commandOf reads ["a", "b"], or a line for the shell.
func commandOf(text string) []string {
	list := []string{}
	if json.Unmarshal([]byte(text), &list) != nil {
		return []string{"/bin/sh", "-c", text}
	}
	return list
}

// pairsOf reads "a=b c='d e'", or the old form "a b c".
func pairsOf(word, text string) ([][2]string, error) {
	first, rest, _ := strings.Cut(text, " ")
	if !strings.Contains(first, "=") {
		if rest = strings.TrimSpace(rest); rest == "" {
			return nil, fail(http.StatusBadRequest, "dockerfile parse error: %s must have two arguments", word)
		}
		return [][2]string{{first, rest}}, nil
	}
	words, err := shlex.Split(text)
	if err != nil {
		return nil, fail(http.StatusBadRequest, "dockerfile parse error: %s: %v", word, err)
	}
	var pairs [][2]string
	for _, w := range words {
		key, value, ok := strings.Cut(w, "=")
		if !ok || key == "" {
			return nil, fail(http.StatusBadRequest, "dockerfile parse error: can't find = in %q. Must be of the form: name=value", w)
		}
		pairs = append(pairs, [2]string{key, value})
	}
	return pairs, nil
}

func withVariable(env []string, key, value string) []string {
	for i, v := range env {
		if strings.HasPrefix(v, key+"=") {
			env[i] = key + "=" + value
			return env
		}
	}
	return append(env, key+"="+value)
}

func with[V any](m map[string]V, key string, value V) map[string]V {
	if m == nil {
		m = map[string]V{}
	}
	m[key] = value
	return m
}

// changeHealth reads "NONE" or "[--interval=…] CMD …".
func changeHealth(c *v1.Config, text string) error {
	if text == "NONE" {
		c.Healthcheck = &v1.HealthConfig{Test: []string{"NONE"}}
		return nil
	}
	h := &v1.HealthConfig{}
	durations := map[string]*time.Duration{"interval": &h.Interval, "timeout": &h.Timeout, "start-period": &h.StartPeriod}
	for strings.HasPrefix(text, "--") {
		option, rest, _ := strings.Cut(text, " ")
		key, value, _ := strings.Cut(strings.TrimPrefix(option, "--"), "=")
		text = strings.TrimSpace(rest)
		d, err := time.ParseDuration(value)
		if to := durations[key]; to == nil || err != nil {
			return fail(http.StatusBadRequest, "dockerfile parse error: HEALTHCHECK %s", option)
		}
		*durations[key] = d
	}
	command, ok := strings.CutPrefix(text, "CMD ")
	if !ok {
		return fail(http.StatusBadRequest, "dockerfile parse error: unknown type %q in HEALTHCHECK (try CMD)", text)
	}
	h.Test = []string{"CMD-SHELL", command}
	list := []string{}
	if json.Unmarshal([]byte(command), &list) == nil {
		h.Test = append([]string{"CMD"}, list...)
	}
	c.Healthcheck = h
	return nil
}
