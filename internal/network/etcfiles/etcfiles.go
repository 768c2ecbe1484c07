// Package etcfiles writes the files that containers find at /etc/resolv.conf, /etc/hosts and /etc/hostname. It reads the host's own, and the
// containers' wishes and addresses.
package etcfiles

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/shoal-dev/shoal/internal/network/sandbox"
	"github.com/shoal-dev/shoal/internal/shoal"
)

// SetPaths enters into s where the files of a container are that has the folder.
func SetPaths(s *shoal.Sandbox, dir string) {
	s.ResolvConf, s.Hosts, s.HostnameAt = filepath.Join(dir, "resolv.conf"), filepath.Join(dir, "hosts"), filepath.Join(dir, "hostname")
}

// Write writes the files of a container into its folder, which it makes if it is missing. They are mounted into the container, so they are
// written in place. links is added to its hosts file.
func Write(dir string, spec shoal.SandboxSpec, endpoints sandbox.Endpoints, host HostResolver, links string) error {
	if err := os.MkdirAll(dir, 0o711); err != nil {
		return fmt.Errorf("make network files: %w", err)
	}
	var s shoal.Sandbox
	SetPaths(&s, dir)
	return errors.Join(os.WriteFile(s.ResolvConf, []byte(host.resolvConf(spec, endpoints)), 0o644),
		os.WriteFile(s.Hosts, []byte(hostsFile(spec, endpoints)+links), 0o644), os.WriteFile(s.HostnameAt, []byte(spec.Hostname+"\n"), 0o644))
}

// Relink replaces the addresses in the hosts file of a container, in its folder, by those of lines that have the same names. What the container itself has
// written there stays.
func Relink(dir, lines string) error {
	var s shoal.Sandbox
	SetPaths(&s, dir)
	text, err := os.ReadFile(s.Hosts)
	if err != nil {
		return fmt.Errorf("read hosts of a container: %w", err)
	}
	addrs := map[string]string{}
	for line := range strings.Lines(lines) {
		addr, names, _ := strings.Cut(line, "\t")
		addrs[names] = addr
	}
	var out strings.Builder
	for line := range strings.Lines(string(text)) {
		_, names, _ := strings.Cut(line, "\t")
		if addr := addrs[names]; addr != "" {
			line = addr + "\t" + names
		}
		out.WriteString(line)
	}
	if out.String() == string(text) {
		return nil
	}
	return os.WriteFile(s.Hosts, []byte(out.String()), 0o644) // #nosec G703 -- below our own folder
}

// CopyHost writes the files of a container in the node's own namespace: it gets the host's. The folder is made if it is missing.
func CopyHost(dir string, spec shoal.SandboxSpec, resolvConf string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("make network files: %w", err)
	}
	resolv, err := os.ReadFile(resolvConf)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("read host's resolv.conf: %w", err)
	}
	hosts, err := os.ReadFile("/etc/hosts")
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("read host's hosts: %w", err)
	}
	var s shoal.Sandbox
	SetPaths(&s, dir)
	return errors.Join(os.WriteFile(s.ResolvConf, resolv, 0o644), os.WriteFile(s.Hosts, hosts, 0o644),
		os.WriteFile(s.HostnameAt, []byte(spec.Hostname+"\n"), 0o644)) // #nosec G703 -- below our own folder
}
