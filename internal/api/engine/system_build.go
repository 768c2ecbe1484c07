package engine

import (
	"os/exec"
	"runtime/debug"
	"strings"
	"time"
)

// origin is what the toolchain has noted in this program of where it comes from; empty fields are not known.
type origin struct{ commit, time string }

// shortCommit is how many digits of a commit Docker shows.
const shortCommit = 7

func originOf() origin {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return origin{}
	}
	var b origin
	for _, s := range info.Settings {
		switch s.Key {
		case "vcs.revision":
			b.commit = s.Value[:min(shortCommit, len(s.Value))]
		case "vcs.time":
			if t, err := time.Parse(time.RFC3339, s.Value); err == nil {
				b.time = t.UTC().Format("2006-01-02T15:04:05.000000000-07:00")
			}
		}
	}
	return b
}

// programVersion is the version of a program that containers need, and the commit that it was built from, or its version if that is not known.
type programVersion struct{ name, version, commit string }

// containerdVersion is that of the containerd that is part of this program.
func containerdVersion() programVersion {
	p := programVersion{name: "containerd"}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return p
	}
	for _, m := range info.Deps {
		if m.Path == "github.com/containerd/containerd/v2" {
			p.version, p.commit = m.Version, m.Version
		}
	}
	return p
}

// runcVersion asks the runc that is found first; one that cannot be asked has no version.
func runcVersion() programVersion {
	p := programVersion{name: "runc"}
	out, err := exec.Command("runc", "--version").Output()
	if err != nil {
		return p
	}
	for line := range strings.Lines(string(out)) {
		line = strings.TrimSpace(line)
		if v, ok := strings.CutPrefix(line, "runc version "); ok {
			p.version, p.commit = v, v
		}
		if c, ok := strings.CutPrefix(line, "commit: "); ok {
			p.commit = c
		}
	}
	return p
}
