package config

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// Runtime is an OCI runtime that containers can ask for by its name.
type Runtime struct {
	Path string   `json:"path"`
	Args []string `json:"runtimeArgs,omitempty"`
}

// runtimeInFile is what the configuration file has for a runtime.
type runtimeInFile struct {
	Runtime
	Type    string          `json:"runtimeType,omitempty"` // of a shim
	Options json.RawMessage `json:"options,omitempty"`
}

// runcShim is the name of the shim that all containers have.
const runcShim = "io.containerd.runc.v2"

// runtimes is the value of runtimes: {"name": {"path": "/usr/bin/other"}}, or with a runtimeType. Flags have no more than the path.
func runtimes(raw json.RawMessage) ([]string, error) {
	var all map[string]runtimeInFile
	if err := json.Unmarshal(raw, &all); err != nil {
		return nil, err
	}
	var out []string
	for _, name := range slices.Sorted(maps.Keys(all)) {
		encoded, err := json.Marshal(all[name])
		if err != nil {
			return nil, err
		}
		out = append(out, name+"="+string(encoded))
	}
	return out, nil
}

// parseRuntime reads "name=path", or what runtimes has made of the file.
func parseRuntime(c *Config, value string) error {
	name, path, ok := strings.Cut(value, "=")
	switch {
	case !ok || name == "" || path == "":
		return fmt.Errorf("invalid runtime argument: %s", value)
	case strings.ToLower(name) == StockRuntime:
		return fmt.Errorf("runtime name '%s' is reserved", StockRuntime)
	}
	given := runtimeInFile{Runtime: Runtime{Path: path}}
	if strings.HasPrefix(path, "{") {
		given = runtimeInFile{}
		if err := json.Unmarshal([]byte(path), &given); err != nil {
			return err
		}
	}
	if err := given.check(); err != nil {
		return fmt.Errorf("runtime %s: %w", name, err)
	}
	if given.Path == "" {
		if given.Path = given.program(); given.Path == "" {
			c.Warnings = append(c.Warnings, fmt.Sprintf("runtimes %s has no effect: containers have the shim of the daemon, which runs a program that a path names, and no other runtimeType", name))
			return nil
		}
	}
	put(&c.Runtimes, name, given.Runtime)
	return nil
}

// check refuses what dockerd refuses, in its words.
func (r *runtimeInFile) check() error {
	switch {
	case r.Path == "" && r.Type == "":
		return errors.New("either a runtimeType or a path must be configured")
	case r.Path != "" && r.Type != "":
		return errors.New("cannot configure both path and runtimeType for the same runtime")
	case r.Path != "" && len(r.Options) > 0:
		return errors.New("options cannot be used with a path runtime")
	case r.Path == "" && len(r.Args) > 0:
		return errors.New("args cannot be used with a runtimeType runtime")
	}
	return nil
}

// program is the program that runc's shim is to run instead of runc; empty for another shim.
func (r *runtimeInFile) program() string {
	var options struct{ BinaryName string }
	if r.Type != runcShim || len(r.Options) > 0 && json.Unmarshal(r.Options, &options) != nil {
		return ""
	}
	return options.BinaryName
}
