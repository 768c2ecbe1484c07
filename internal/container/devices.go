package container

import (
	"cmp"
	"fmt"
	"os"
	"path/filepath"
	"slices"

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
		return hostDevices(spec)
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
		node, err := deviceNode(d.Host, cmp.Or(d.Container, d.Host))
		if err != nil {
			return errdefs.ErrInvalidArgument.WithMessage(fmt.Sprintf("error gathering device information while adding custom device %q: %v", d.Host, err))
		}
		spec.Linux.Devices = append(spec.Linux.Devices, node)
		allow(node.Type, node.Major, node.Minor, cmp.Or(d.Permissions, "rwm"))
	}
	return nil
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
		return d, fmt.Errorf("not a device node")
	}
	mode := os.FileMode(st.Mode & 0o777)
	d.FileMode, d.UID, d.GID = &mode, &st.Uid, &st.Gid
	return d, nil
}

// hostDevices gives a privileged container the device nodes directly in the host's /dev, but for those of terminals, of which it has its
// own.
func hostDevices(spec *specs.Spec) error {
	list, err := os.ReadDir("/dev")
	if err != nil {
		return fmt.Errorf("list devices: %w", err)
	}
	for _, entry := range list {
		name := entry.Name()
		if entry.Type()&os.ModeDevice == 0 || slices.Contains([]string{"console", "ptmx"}, name) {
			continue
		}
		if d, err := deviceNode(filepath.Join("/dev", name), "/dev/"+name); err == nil {
			spec.Linux.Devices = append(spec.Linux.Devices, d)
		}
	}
	return nil
}
