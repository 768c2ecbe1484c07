package container

import (
	"cmp"
	"maps"
	"slices"
	"strings"

	"github.com/shoal-dev/shoal/internal/logs/driver"
	"github.com/shoal-dev/shoal/internal/shoal"
)

// Defaults is what the node's settings say for containers that do not say it themselves. It is applied when a container is created, and kept with it. The
// zero value says nothing.
type Defaults struct {
	Ulimits         map[string]shoal.Ulimit
	ShmSize         int64 // bytes
	IpcMode         string
	CgroupnsMode    string // not for privileged containers
	Init            bool
	NoNewPrivileges bool
	Seccomp         string // the JSON of a profile, or "unconfined"; empty for the built-in one
	Log             shoal.Driver
	Runtime         string            // "" for the node's own
	Runtimes        map[string]string // programs by the names under which containers ask for them, beside the node's own
}

// Check refuses defaults with which no container could be created.
func (d *Defaults) Check() error {
	if len(d.Log.Options) == 0 {
		return nil // as with dockerd: an unknown driver fails the containers that have it
	}
	return driver.Validate(d.Log.Name, d.Log.Options)
}

// apply completes a spec.
func (d *Defaults) apply(s *Spec) {
	for _, name := range slices.Sorted(maps.Keys(d.Ulimits)) {
		if !slices.ContainsFunc(s.Ulimits, func(u shoal.Ulimit) bool { return u.Name == name }) {
			s.Ulimits = append(slices.Clip(s.Ulimits), d.Ulimits[name])
		}
	}
	if s.ShmSize == 0 {
		s.ShmSize = d.ShmSize
	}
	if s.IpcMode == "" {
		s.IpcMode = d.IpcMode
	}
	if s.CgroupnsMode == "" && !s.Privileged {
		s.CgroupnsMode = d.CgroupnsMode
	}
	if d.NoNewPrivileges {
		s.addSecurityOpt("no-new-privileges", "")
	}
	if d.Seccomp != "" && !s.Privileged {
		s.addSecurityOpt("seccomp", d.Seccomp)
	}
	if s.Runtime == "" {
		s.Runtime = d.Runtime
	}
	d.applyLog(&s.Log)
}

// addSecurityOpt adds a security option unless there is one of the name.
func (s *Spec) addSecurityOpt(name, value string) {
	for _, o := range s.SecurityOpt {
		if rest, ok := strings.CutPrefix(o, name); ok && (rest == "" || rest[0] == '=' || rest[0] == ':') {
			return
		}
	}
	if value != "" {
		name += "=" + value
	}
	s.SecurityOpt = append(slices.Clip(s.SecurityOpt), name)
}

// applyLog completes the log driver. Options are only for the default driver, save those of what the node keeps of the lines of any driver.
func (d *Defaults) applyLog(to *shoal.Driver) {
	same := d.Log.Name != "" && (to.Name == "" || to.Name == d.Log.Name)
	options := map[string]string{}
	for key, value := range d.Log.Options {
		if same || strings.HasPrefix(key, "cache-") {
			options[key] = value
		}
	}
	if !same && len(options) == 0 {
		return
	}
	maps.Copy(options, to.Options)
	*to = shoal.Driver{Name: cmp.Or(to.Name, d.Log.Name), Options: options}
}
