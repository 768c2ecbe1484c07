package convert

import (
	"os"

	"github.com/moby/moby/api/types/mount"

	"github.com/shoal-dev/shoal/internal/shoal"
)

// ToAPIMount converts a mount of a container or service.
func ToAPIMount(m shoal.Mount) mount.Mount {
	out := mount.Mount{Type: mount.Type(m.Type), Source: m.Source, Target: m.Target, ReadOnly: m.ReadOnly, Consistency: mount.Consistency(m.Consistency)}
	if b := m.Bind; b != nil {
		out.BindOptions = &mount.BindOptions{
			Propagation: mount.Propagation(b.Propagation), NonRecursive: b.NonRecursive, CreateMountpoint: b.CreateMountpoint,
			ReadOnlyNonRecursive: b.ReadOnlyNonRecursive, ReadOnlyForceRecursive: b.ReadOnlyForceRecursive,
		}
	}
	if v := m.Volume; v != nil {
		out.VolumeOptions = &mount.VolumeOptions{NoCopy: v.NoCopy, Labels: v.Labels, Subpath: v.Subpath}
		if v.Driver != nil {
			out.VolumeOptions.DriverConfig = &mount.Driver{Name: v.Driver.Name, Options: v.Driver.Options}
		}
	}
	if i := m.Image; i != nil {
		out.ImageOptions = &mount.ImageOptions{Subpath: i.Subpath}
	}
	if t := m.Tmpfs; t != nil {
		out.TmpfsOptions = &mount.TmpfsOptions{SizeBytes: t.SizeBytes, Mode: os.FileMode(t.Mode), Options: t.Options}
	}
	return out
}

// FromAPIMount converts a mount of a container or service. It checks nothing.
func FromAPIMount(m mount.Mount) shoal.Mount {
	out := shoal.Mount{Type: string(m.Type), Source: m.Source, Target: m.Target, ReadOnly: m.ReadOnly, Consistency: string(m.Consistency)}
	if b := m.BindOptions; b != nil {
		out.Bind = &shoal.BindOptions{
			Propagation: string(b.Propagation), NonRecursive: b.NonRecursive, CreateMountpoint: b.CreateMountpoint,
			ReadOnlyNonRecursive: b.ReadOnlyNonRecursive, ReadOnlyForceRecursive: b.ReadOnlyForceRecursive,
		}
	}
	if v := m.VolumeOptions; v != nil {
		out.Volume = &shoal.VolumeOptions{NoCopy: v.NoCopy, Labels: v.Labels, Subpath: v.Subpath}
		if v.DriverConfig != nil {
			out.Volume.Driver = &shoal.Driver{Name: v.DriverConfig.Name, Options: v.DriverConfig.Options}
		}
	}
	if i := m.ImageOptions; i != nil {
		out.Image = &shoal.ImageOptions{Subpath: i.Subpath}
	}
	if t := m.TmpfsOptions; t != nil {
		out.Tmpfs = &shoal.TmpfsOptions{SizeBytes: t.SizeBytes, Mode: uint32(t.Mode), Options: t.Options}
	}
	return out
}

// ForeignOption is the field of a mount that has options of mounts of another type; "" if there is none.
func ForeignOption(m mount.Mount) string {
	for _, o := range []struct {
		name string
		set  bool
		of   mount.Type
	}{
		{"VolumeOptions", m.VolumeOptions != nil, mount.TypeVolume}, {"BindOptions", m.BindOptions != nil, mount.TypeBind}, {"TmpfsOptions", m.TmpfsOptions != nil, mount.TypeTmpfs},
		{"ImageOptions", m.ImageOptions != nil, mount.TypeImage}, {"ClusterOptions", m.ClusterOptions != nil, mount.TypeCluster},
	} {
		if o.set && m.Type != o.of {
			return o.name
		}
	}
	return ""
}
