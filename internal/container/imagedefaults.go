package container

import (
	"cmp"
	"maps"
	"slices"
	"strconv"
	"strings"

	dockerspec "github.com/moby/docker-image-spec/specs-go/v1"

	"github.com/shoal-dev/shoal/internal/image"
	"github.com/shoal-dev/shoal/internal/shoal"
)

// applyImageDefaults fills the fields that the spec leaves empty from the image's configuration.
func applyImageDefaults(info *Info, img *image.Image) {
	s, c := info.Spec, img.Spec.Config
	setCommand(info, c)
	info.User, info.WorkingDir, info.StopSignal = cmp.Or(s.User, c.User), cmp.Or(s.WorkingDir, c.WorkingDir), cmp.Or(s.StopSignal, c.StopSignal)
	info.Labels = maps.Clone(c.Labels)
	if info.Labels == nil {
		info.Labels = map[string]string{}
	}
	maps.Copy(info.Labels, s.Labels)
	info.Env = mergeEnv(c.Env, s.Env)
	for v := range c.Volumes {
		if !slices.Contains(info.Spec.Volumes, v) {
			info.Spec.Volumes = append(info.Spec.Volumes, v)
		}
	}
	for p := range c.ExposedPorts {
		if !strings.Contains(p, "/") {
			p += "/tcp"
		}
		if !slices.Contains(info.Spec.ExposedPorts, p) {
			info.Spec.ExposedPorts = append(info.Spec.ExposedPorts, p)
		}
	}
	slices.Sort(info.Spec.ExposedPorts)
	if info.Spec.PublishAll {
		info.Spec.Network.Ports = publishAll(info.Spec.Network.Ports, info.Spec.ExposedPorts)
	}
	info.Shell = s.Shell
	if info.Shell == nil {
		info.Shell = c.Shell
	}
	info.Healthcheck = mergeHealthcheck(c.Healthcheck, s.Healthcheck)
	if info.Spec.Hostname == "" && s.UTSMode != "host" && s.Network.Mode != "host" {
		info.Spec.Hostname = info.ID[:12]
	}
}

// setCommand puts together the command. The image's entrypoint goes with the image's arguments or with the spec's; an entrypoint of the
// spec replaces both of the image's.
func setCommand(info *Info, c dockerspec.DockerOCIImageConfig) {
	info.Entrypoint, info.Cmd = info.Spec.Entrypoint, info.Spec.Cmd
	if info.Entrypoint == nil {
		info.Entrypoint = c.Entrypoint
		if len(info.Cmd) == 0 {
			info.Cmd = c.Cmd
		}
	}
	command := slices.Concat(info.Entrypoint, info.Cmd)
	if len(command) > 0 {
		info.Path, info.Args = command[0], command[1:]
	}
}

// publishAll adds the exposed ports, "80/tcp", that are not published yet to those that are; the node chooses where.
func publishAll(published []shoal.PortBinding, exposed []string) []shoal.PortBinding {
	all := slices.Clone(published)
	for _, text := range exposed {
		number, protocol, _ := strings.Cut(text, "/")
		port, err := strconv.ParseUint(number, 10, 16)
		if err != nil {
			continue // an image may expose what it likes
		}
		p := shoal.PortBinding{Protocol: shoal.Protocol(protocol), Target: uint16(port)}
		if !slices.ContainsFunc(published, func(have shoal.PortBinding) bool { return have.Target == p.Target && have.Protocol == p.Protocol }) {
			all = append(all, p)
		}
	}
	slices.SortStableFunc(all, func(a, b shoal.PortBinding) int { return cmp.Compare(a.Target, b.Target) })
	return all
}

// mergeHealthcheck returns the spec's health check, or the image's with the times and retries that the spec sets, if the spec has no
// test of its own. Either may be nil, and the result is if both are.
func mergeHealthcheck(image *dockerspec.HealthcheckConfig, spec *shoal.Healthcheck) *shoal.Healthcheck {
	if image == nil || spec != nil && len(spec.Test) > 0 {
		return spec
	}
	over := shoal.Healthcheck{}
	if spec != nil {
		over = *spec
	}
	return &shoal.Healthcheck{
		Test:          image.Test,
		Interval:      cmp.Or(over.Interval, image.Interval),
		Timeout:       cmp.Or(over.Timeout, image.Timeout),
		StartPeriod:   cmp.Or(over.StartPeriod, image.StartPeriod),
		StartInterval: cmp.Or(over.StartInterval, image.StartInterval),
		Retries:       cmp.Or(over.Retries, image.Retries),
	}
}

// mergeEnv overrides the variables of base with those of over; a "NAME" without a value removes the variable. The result has a PATH,
// Docker's default if neither has one.
func mergeEnv(base, over []string) []string {
	env := slices.Clone(base)
	for _, kv := range over {
		key, _, hasValue := strings.Cut(kv, "=")
		at := slices.IndexFunc(env, func(have string) bool { return strings.HasPrefix(have, key+"=") })
		switch {
		case at >= 0 && hasValue:
			env[at] = kv
		case at >= 0:
			env = slices.Delete(env, at, at+1)
		case hasValue:
			env = append(env, kv)
		}
	}
	if !slices.ContainsFunc(env, func(kv string) bool { return strings.HasPrefix(kv, "PATH=") }) {
		env = append([]string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}, env...)
	}
	return env
}
