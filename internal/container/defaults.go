package container

import (
	"maps"
	"slices"
	"strings"

	"github.com/shoal-dev/shoal/internal/logs"
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
}

// Check refuses defaults with which no container could be created.
func (d *Defaults) Check() error {
	_, err := logs.ParseOptions(d.Log.Name, d.Log.Options)
	return err
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
	if s.Init == nil && d.Init {
		s.Init = &d.Init
	}
	if d.NoNewPrivileges {
		s.addSecurityOpt("no-new-privileges", "")
	}
	if d.Seccomp != "" && !s.Privileged {
		s.addSecurityOpt("seccomp", d.Seccomp)
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

// applyLog completes the log driver. Options are only those of the default driver.
func (d *Defaults) applyLog(driver *shoal.Driver) {
	if d.Log.Name == "" || driver.Name != "" && driver.Name != d.Log.Name {
		return
	}
	options := maps.Clone(d.Log.Options)
	if options == nil {
		options = map[string]string{}
	}
	maps.Copy(options, driver.Options)
	*driver = shoal.Driver{Name: d.Log.Name, Options: options}
}
