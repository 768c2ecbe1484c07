package container

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// addDevices allows a container to use the devices that every container has and those that the user asked for; a privileged one may use
// all. A host device that is not there is an invalid argument.
func addDevices(spec *specs.Spec, s Spec) error {
	allow := func(kind string, major, minor int64, access string) { // see LinuxDeviceCgroup
		d := specs.LinuxDeviceCgroup{Allow: true, Type: kind, Access: access}
		if major != anyNumber {
			d.Major = &major
		}
		if minor != anyNumber {
			d.Minor = &minor
		}
		spec.Linux.Resources.Devices = append(spec.Linux.Resources.Devices, d)
	}
	if s.Privileged {
		allow("a", anyNumber, anyNumber, "rwm")
		if err := hostDevices(spec); err != nil {
			return err
		}
		for _, d := range s.Devices { // at another place than the host's
			if d.Container == "" || d.Container == d.Host {
				continue
			}
			nodes, err := deviceNodes(d)
			if err != nil {
				return err
			}
			spec.Linux.Devices = append(spec.Linux.Devices, nodes...)
		}
		return nil
	}
	spec.Linux.Resources.Devices = append(spec.Linux.Resources.Devices, specs.LinuxDeviceCgroup{Allow: false, Access: "rwm"})
	allow("c", anyNumber, anyNumber, "m") // mknod: to make a device node gives no access to the device
	allow("b", anyNumber, anyNumber, "m")
	for _, d := range []struct{ major, minor int64 }{
		{1, 3}, {1, 5}, {1, 7}, // null, zero, full
		{5, 0},         // tty
		{1, 9}, {1, 8}, // urandom, random
		{136, anyNumber}, {5, 2}, // pts/*, ptmx
	} {
		allow("c", d.major, d.minor, "rwm")
	}
	for _, d := range s.Devices {
		nodes, err := deviceNodes(d)
		if err != nil {
			return err
		}
		for _, node := range nodes {
			spec.Linux.Devices = append(spec.Linux.Devices, node)
			allow(node.Type, node.Major, node.Minor, cmp.Or(d.Permissions, "rwm"))
		}
	}
	for _, text := range s.DeviceCgroupRules {
		rule, err := parseDeviceRule(text)
		if err != nil {
			return err
		}
		spec.Linux.Resources.Devices = append(spec.Linux.Resources.Devices, rule)
	}
	return nil
}

// deviceRule is the form of a rule for devices, as in the kernel's file devices.allow.
var deviceRule = regexp.MustCompile(`^([acb]) ([0-9]+|\*):([0-9]+|\*) ([rwm]{1,3})$`)

// parseDeviceRule reads a rule for devices; "*" is any number.
func parseDeviceRule(text string) (specs.LinuxDeviceCgroup, error) {
	parts := deviceRule.FindStringSubmatch(text)
	if parts == nil {
		return specs.LinuxDeviceCgroup{}, errdefs.ErrInvalidArgument.WithMessage(fmt.Sprintf("invalid device cgroup rule format: '%s'", text))
	}
	rule := specs.LinuxDeviceCgroup{Allow: true, Type: parts[1], Access: parts[4]}
	for i, to := range []**int64{&rule.Major, &rule.Minor} {
		if number := parts[i+2]; number != "*" {
			n, err := strconv.ParseInt(number, 10, 64)
			if err != nil {
				return rule, errdefs.ErrInvalidArgument.WithMessage(fmt.Sprintf("invalid value in device cgroup rule: '%s'", text))
			}
			*to = &n
		}
	}
	return rule, nil
}

// deviceNodes describes a device that a user asked for, or all in a directory.
func deviceNodes(d Device) ([]specs.LinuxDevice, error) {
	host, at := d.Host, cmp.Or(d.Container, d.Host)
	if target, err := filepath.EvalSymlinks(host); err == nil {
		host = target
	}
	node, err := deviceNode(host, at)
	if err == nil {
		return []specs.LinuxDevice{node}, nil
	}
	var nodes []specs.LinuxDevice
	_ = filepath.WalkDir(host, func(path string, _ fs.DirEntry, _ error) error { // what is no device, or cannot be read, is left out
		rel, relErr := filepath.Rel(host, path)
		if node, nodeErr := deviceNode(path, filepath.Join(at, rel)); nodeErr == nil && relErr == nil {
			nodes = append(nodes, node)
		}
		return nil
	})
	if len(nodes) == 0 {
		return nil, errdefs.ErrInvalidArgument.WithMessage(fmt.Sprintf("error gathering device information while adding custom device %q: %v", d.Host, err))
	}
	return nodes, nil
}

// anyNumber stands for every major or minor device number.
const anyNumber = -1

// deviceNode describes a device of the host as the container is to see it, at another path.
func deviceNode(host, at string) (specs.LinuxDevice, error) {
	var st unix.Stat_t
	if err := unix.Stat(host, &st); err != nil {
		return specs.LinuxDevice{}, err
	}
	d := specs.LinuxDevice{Path: at, Major: int64(unix.Major(st.Rdev)), Minor: int64(unix.Minor(st.Rdev))}
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFCHR:
		d.Type = "c"
	case unix.S_IFBLK:
		d.Type = "b"
	default:
		return d, errors.New("not a device node")
	}
	mode := os.FileMode(st.Mode & 0o777)
	d.FileMode, d.UID, d.GID = &mode, &st.Uid, &st.Gid
	return d, nil
}

// hostDevices gives a privileged container the device nodes in the host's /dev, but for those of terminals and what else it has of its own.
func hostDevices(spec *specs.Spec) error {
	own := []string{"console", "ptmx", "pts", "shm", "fd", "mqueue", ".lxc", ".lxd-mounts", ".udev"}
	return filepath.WalkDir("/dev", func(path string, entry fs.DirEntry, err error) error {
		switch {
		case err != nil && path == "/dev":
			return fmt.Errorf("list devices: %w", err)
		case err != nil:
			return nil //nolint:nilerr // it went meanwhile
		case slices.Contains(own, entry.Name()) && entry.IsDir():
			return filepath.SkipDir
		case slices.Contains(own, entry.Name()) || entry.Type()&os.ModeDevice == 0:
			return nil
		}
		if d, err := deviceNode(path, path); err == nil {
			spec.Linux.Devices = append(spec.Linux.Devices, d)
		}
		return nil
	})
}
