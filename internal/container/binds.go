package container

import (
	"cmp"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/containerd/containerd/v2/core/mount"
	"github.com/containerd/errdefs"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/shoal-dev/shoal/internal/shoal"
)

// defaultPropagation is that of a bind whose user asked for none.
const defaultPropagation = "rprivate"

// bindOptions returns the options of a bind mount, or of that of a volume. A read-only one is so with all that is mounted below its source,
// unless the user asked for less or the kernel cannot do it (mount_setattr, Linux 5.12).
func bindOptions(p MountPoint, asked *shoal.BindOptions) ([]string, error) {
	if asked == nil {
		asked = &shoal.BindOptions{}
	}
	options := []string{"rbind"}
	if asked.NonRecursive {
		options[0] = "bind"
	}
	switch {
	case p.RW && asked.ReadOnlyNonRecursive:
		return nil, errdefs.ErrInvalidArgument.WithMessage("mount options conflict: !ReadOnly && BindOptions.ReadOnlyNonRecursive")
	case p.RW && asked.ReadOnlyForceRecursive:
		return nil, errdefs.ErrInvalidArgument.WithMessage("mount options conflict: !ReadOnly && BindOptions.ReadOnlyForceRecursive")
	case asked.ReadOnlyNonRecursive && asked.ReadOnlyForceRecursive:
		return nil, errdefs.ErrInvalidArgument.WithMessage("mount options conflict: ReadOnlyNonRecursive && BindOptions.ReadOnlyForceRecursive")
	case p.RW:
	case asked.ReadOnlyNonRecursive:
		options = append(options, "ro")
	case kernelHasMountSetattr():
		options = append(options, "rro")
	case asked.ReadOnlyForceRecursive:
		return nil, errdefs.ErrInvalidArgument.WithMessage("rro is not supported: failed to call mount_setattr: function not implemented (kernel is older than 5.12?)")
	default:
		options = append(options, "ro")
	}
	return append(options, cmp.Or(p.Propagation, defaultPropagation)), nil
}

// kernelHasMountSetattr reports whether the kernel can change a mount together with all below it.
var kernelHasMountSetattr = sync.OnceValue(func() bool { //nolint:gochecknoglobals // asked once
	err := unix.MountSetattr(-1, "", unix.AT_RECURSIVE, &unix.MountAttr{Attr_set: unix.MOUNT_ATTR_RDONLY})
	return err != unix.ENOSYS && err != unix.EPERM //nolint:errorlint // a bare number; the call fails for want of a path
})

// checkPropagation refuses to pass on mounts of a source whose mount does not, and gives the container's root the propagation that its bind needs.
// A source that holds the daemon's own directories is passed on only as far as it can be, unless the user asked for more.
func (e *Engine) checkPropagation(linux *specs.Linux, p MountPoint, asked *shoal.BindOptions) error {
	shared, slave := strings.HasSuffix(p.Propagation, "shared"), strings.HasSuffix(p.Propagation, "slave")
	if !shared && !slave {
		return nil
	}
	source, err := filepath.EvalSymlinks(p.Source)
	if err != nil {
		return fmt.Errorf("find bind source: %w", err)
	}
	on, err := mount.Lookup(source)
	if err != nil {
		return fmt.Errorf("find mount of bind source: %w", err)
	}
	has := func(kind string) bool {
		return slices.ContainsFunc(strings.Fields(on.Optional), func(o string) bool { return strings.HasPrefix(o, kind+":") })
	}
	refused := func(what string) error {
		return errdefs.ErrInvalidArgument.WithMessage(fmt.Sprintf("path %s is mounted on %s but it is not a %s mount", p.Source, on.Mountpoint, what))
	}
	switch {
	case shared && !has("shared"):
		return refused("shared")
	case shared:
		linux.RootfsPropagation = "shared"
	case !has("shared") && !has("master"):
		if asked != nil && asked.Propagation != "" {
			return refused("shared or slave")
		}
	case linux.RootfsPropagation == "":
		linux.RootfsPropagation = "rslave"
	}
	return nil
}

// bindPropagation is the propagation of a bind. A source in which the daemon's own directories are, or that is in them, must not keep what the
// daemon mounts there busy: it is never private.
func (e *Engine) bindPropagation(m shoal.Mount) (string, error) {
	asked := ""
	if m.Bind != nil {
		asked = m.Bind.Propagation
	}
	daemonRoot := filepath.Dir(e.Root)
	if !isBelow(m.Source, daemonRoot) && !isBelow(daemonRoot, m.Source) {
		return cmp.Or(asked, defaultPropagation), nil
	}
	switch asked {
	case "":
		return "rslave", nil
	case "rslave", "rshared":
		return asked, nil
	}
	return "", errdefs.ErrInvalidArgument.WithMessage(fmt.Sprintf(
		`invalid mount config: must use either propagation mode "rslave" or "rshared" when mount source is within the daemon root, daemon root: %q, bind mount source: %q, propagation: %q`,
		daemonRoot, m.Source, asked))
}

// isBelow reports whether a path is a directory or in it.
func isBelow(path, dir string) bool {
	rel, err := filepath.Rel(dir, path)
	return err == nil && filepath.IsLocal(rel)
}
