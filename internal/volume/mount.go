package volume

import (
	"fmt"
	"net"
	"strings"

	"github.com/containerd/containerd/v2/core/mount"
)

// Mount mounts what a volume's options ask for, unless it is mounted already, publishes a mount event for the container and returns the
// volume's directory.
func (s *Store) Mount(name, container string) (string, error) {
	v, mounted, err := s.getMounted(name)
	if err != nil {
		return "", err
	}
	if v.Options["device"] != "" && !mounted {
		if err := s.mountOnce(v); err != nil {
			return "", fmt.Errorf("error while mounting volume '%s': %w", v.Mountpoint, err)
		}
	}
	s.publish("mount", v, map[string]string{"container": container, "read/write": "true"})
	return v.Mountpoint, nil
}

// getMounted is the volume of a name, and whether it is known to be mounted.
func (s *Store) getMounted(name string) (*Volume, bool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	v, ok := s.volumes[name]
	if !ok {
		return nil, false, notFound(name)
	}
	return copyOf(v), s.mounted[name], nil
}

// mountOnce mounts what a volume's options ask for, one at a time.
func (s *Store) mountOnce(v *Volume) error {
	s.disk.Lock()
	defer s.disk.Unlock()
	if _, mounted, err := s.getMounted(v.Name); mounted || err != nil {
		return err
	}
	if err := mountDevice(v); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.mounted[v.Name] = true
	return nil
}

// mountDevice mounts what a volume's options ask for at its directory.
func mountDevice(v *Volume) error {
	if mounted, err := isMountpoint(v.Mountpoint); err == nil && mounted {
		return nil // since before a restart of the daemon
	}
	m, err := mountFromOptions(v.Options, net.LookupHost)
	if err != nil {
		return err
	}
	return m.Mount(v.Mountpoint)
}

// mountFromOptions returns the mount that a volume's options ask for. It resolves the host name in addr=, because the kernel takes
// addresses only (Docker does the same).
func mountFromOptions(options map[string]string, lookupHost func(host string) ([]string, error)) (mount.Mount, error) {
	m := mount.Mount{Type: options["type"], Source: options["device"]}
	if o := options["o"]; o != "" {
		m.Options = strings.Split(o, ",")
	}
	for i, o := range m.Options {
		host, isAddr := strings.CutPrefix(o, "addr=")
		if isAddr && net.ParseIP(host) == nil {
			found, err := lookupHost(host)
			if err != nil {
				return m, err
			}
			m.Options[i] = "addr=" + found[0]
		}
	}
	return m, nil
}

// isMountpoint reports whether something is mounted at a path.
func isMountpoint(path string) (bool, error) {
	info, err := mount.Lookup(path)
	return err == nil && info.Mountpoint == path, err
}

// PublishUnmount publishes the event that a container no longer has a volume mounted. It does nothing if there is no such volume.
func (s *Store) PublishUnmount(name, container string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if v, ok := s.volumes[name]; ok {
		s.publish("unmount", v, map[string]string{"container": container})
	}
}
