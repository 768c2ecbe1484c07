package container

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/containerd/errdefs"
)

// link is a container that another is linked to on the default bridge, and what that one calls it.
type link struct{ target, alias string }

// parseLink reads "container:alias", or "container" alone, which is the alias too.
func parseLink(text string) (link, error) {
	parts := strings.Split(text, ":")
	switch {
	case text == "":
		return link{}, errdefs.ErrInvalidArgument.WithMessage("empty string specified for links")
	case len(parts) > 2:
		return link{}, errdefs.ErrInvalidArgument.WithMessage("bad format for links: " + text)
	}
	l := link{target: strings.TrimPrefix(parts[0], "/")}
	l.alias = l.target
	if len(parts) == 2 {
		l.alias = parts[1][strings.LastIndex(parts[1], "/")+1:] // "/container/alias" is how inspect shows it
	}
	return l, nil
}

// links are those of a container that are of the default bridge: on other networks they are aliases.
func (s *Spec) links() ([]link, error) {
	if s.Network.Mode != "bridge" {
		return nil, nil
	}
	var links []link
	for _, text := range s.Network.Links {
		l, err := parseLink(text)
		if err != nil {
			return nil, err
		}
		links = append(links, l)
	}
	return links, nil
}

// checkLinks refuses links to what is not there, in Docker's words.
func (e *Engine) checkLinks(s *Spec) error {
	links, err := s.links()
	if err != nil {
		return err
	}
	for _, l := range links {
		target, err := e.Inspect(l.target)
		if err != nil {
			return errdefs.ErrInvalidArgument.WithMessage(fmt.Sprintf("could not get container for %s: %v", l.target, err))
		}
		if target.Spec.Network.Mode == "host" {
			return errdefs.ErrInvalidArgument.WithMessage("conflicting options: host type networking can't be used with links. This would result in undefined behavior")
		}
	}
	return nil
}

// linkedEnv is the environment by which a container learns of those that it is linked to. They must run, because it has their addresses.
func (e *Engine) linkedEnv(info Info) ([]string, error) {
	links, err := info.Spec.links()
	if err != nil {
		return nil, err
	}
	var env []string
	for _, l := range links {
		name := "/" + info.Name + "/" + l.alias
		target, err := e.Inspect(l.target)
		if err != nil || !running(target.State.Status) {
			return nil, errdefs.ErrInvalidArgument.WithMessage(fmt.Sprintf("Cannot link to a non running container: /%s AS %s", cmp.Or(target.Name, l.target), name))
		}
		addr := ""
		for _, endpoint := range target.Sandbox.Endpoints {
			if endpoint.Network == "bridge" {
				addr = endpoint.Addr.Addr().String()
			}
		}
		if addr == "" {
			return nil, errdefs.ErrInvalidArgument.WithMessage(fmt.Sprintf("container %s not attached to default bridge network", target.ID))
		}
		env = append(env, linkEnv(l.alias, name, addr, target)...)
	}
	return env, nil
}

// linkEnv is the environment that tells of one link, as Docker makes it: for every exposed port and for every range of them where it is, and the
// environment of the target.
func linkEnv(alias, name, addr string, target Info) []string {
	prefix := strings.ToUpper(strings.ReplaceAll(alias, "-", "_"))
	ports := exposedPorts(target.Spec.ExposedPorts)
	var env []string
	if len(ports) > 0 {
		env = append(env, fmt.Sprintf("%s_PORT=%s", prefix, ports[0].url(addr)))
	}
	for first := 0; first < len(ports); {
		last := first
		for last+1 < len(ports) && ports[last+1].protocol == ports[last].protocol && ports[last+1].number == ports[last].number+1 {
			last++
		}
		for _, p := range ports[first : last+1] {
			at := p.variable(prefix)
			env = append(env, at+"="+p.url(addr), at+"_ADDR="+addr, fmt.Sprintf("%s_PORT=%d", at, p.number), at+"_PROTO="+p.protocol)
		}
		if from, to := ports[first], ports[last]; last > first {
			at := from.variable(prefix)
			env = append(env, at+"_START="+from.url(addr), fmt.Sprintf("%s_PORT_START=%d", at, from.number),
				at+"_END="+to.url(addr), fmt.Sprintf("%s_PORT_END=%d", at, to.number))
		}
		first = last + 1
	}
	env = append(env, prefix+"_NAME="+name)
	for _, variable := range target.Env {
		if key, value, ok := strings.Cut(variable, "="); ok && key != "HOME" && key != "PATH" {
			env = append(env, prefix+"_ENV_"+key+"="+value)
		}
	}
	return env
}

// exposedPort is a port that a container or its image exposes.
type exposedPort struct {
	number   int
	protocol string
}

func (p exposedPort) url(addr string) string {
	return fmt.Sprintf("%s://%s:%d", p.protocol, addr, p.number)
}

func (p exposedPort) variable(prefix string) string {
	return fmt.Sprintf("%s_PORT_%d_%s", prefix, p.number, strings.ToUpper(p.protocol))
}

// exposedPorts reads ports, "80/tcp", and sorts them: those of TCP first. What is no port is left out.
func exposedPorts(texts []string) []exposedPort {
	var ports []exposedPort
	for _, text := range texts {
		number, protocol, _ := strings.Cut(text, "/")
		if n, err := strconv.Atoi(number); err == nil {
			ports = append(ports, exposedPort{n, cmp.Or(protocol, "tcp")})
		}
	}
	slices.SortFunc(ports, func(a, b exposedPort) int {
		if a.protocol != b.protocol && (a.protocol == "tcp" || b.protocol == "tcp") {
			return map[bool]int{true: -1, false: 1}[a.protocol == "tcp"]
		}
		return cmp.Or(cmp.Compare(a.protocol, b.protocol), cmp.Compare(a.number, b.number))
	})
	return ports
}

// linkTarget is the container that a link is to, which is named by the container that has it and the alias: "web/db"; empty if there is no such link.
func (e *Engine) linkTarget(ref string) string {
	parent, alias, ok := strings.Cut(strings.TrimPrefix(ref, "/"), "/")
	if !ok {
		return ""
	}
	c, err := e.findByName(parent)
	if err != nil {
		return ""
	}
	info, _ := c.snapshot()
	links, err := info.Spec.links()
	if err != nil {
		return ""
	}
	for _, l := range links {
		if l.alias == alias {
			return l.target
		}
	}
	return ""
}

// renameLinks makes the links to a container that got another name lead to that name.
func (e *Engine) renameLinks(old, name string) error {
	for _, info := range e.List(nil) {
		links, err := info.Spec.links()
		if err != nil {
			continue // one that cannot be read leads nowhere
		}
		if !slices.ContainsFunc(links, func(l link) bool { return l.target == old }) {
			continue
		}
		renamed := make([]string, len(links))
		for i, l := range links {
			if renamed[i] = info.Spec.Network.Links[i]; l.target == old {
				renamed[i] = name + ":" + l.alias
			}
		}
		c, err := e.find(info.ID)
		if err != nil {
			continue // it was removed meanwhile
		}
		if err := e.commit(c, func(i *Info) { i.Spec.Network.Links = renamed }); err != nil {
			return err
		}
	}
	return nil
}
