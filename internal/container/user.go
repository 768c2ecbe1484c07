package container

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/containerd/containerd/v2/core/mount"
	"github.com/containerd/errdefs"
	"github.com/opencontainers/runtime-spec/specs-go"
)

// layerPaths are the directories that make up a container's file system, topmost first. They are enough to read /etc/passwd
// without mounting it.
type layerPaths []string

func layerDirs(root []mount.Mount) layerPaths {
	var dirs layerPaths
	for _, m := range root {
		if m.Type == "bind" {
			dirs = append(dirs, m.Source)
		}
		for _, o := range m.Options {
			if upper, ok := strings.CutPrefix(o, "upperdir="); ok {
				dirs = append(layerPaths{upper}, dirs...)
			}
			if lower, ok := strings.CutPrefix(o, "lowerdir="); ok {
				dirs = append(dirs, strings.Split(lower, ":")...)
			}
		}
	}
	return dirs
}

// read returns a file as the container will see it, nil if there is none. It does not follow links, because a link in a layer could
// lead out of the container.
func (l layerPaths) read(name string) []byte {
	for _, dir := range l {
		file := filepath.Join(dir, name)
		info, err := os.Lstat(file)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil || !info.Mode().IsRegular() { // a whiteout is a device
			return nil
		}
		root, err := os.OpenRoot(dir)
		if err != nil {
			return nil
		}
		defer root.Close()
		data, err := root.ReadFile(name)
		if err != nil {
			return nil
		}
		return data
	}
	return nil
}

func accountEntries(data []byte) [][]string {
	var all [][]string
	lines := bufio.NewScanner(bytes.NewReader(data))
	for lines.Scan() {
		if fields := strings.Split(lines.Text(), ":"); len(fields) >= 4 {
			all = append(all, fields)
		}
	}
	return all
}

// findUser resolves "user", "user:group", "uid" or "uid:gid" with the container's own /etc/passwd and /etc/group.
func findUser(l layerPaths, user string, groups []string) (specs.User, error) {
	name, group, _ := strings.Cut(user, ":")
	out := specs.User{}
	if name == "" {
		name = "0"
	}
	login := ""
	if name == "0" || name == "root" {
		login = "root"
	} else {
		uid, err := strconv.ParseUint(name, 10, 32)
		numeric := err == nil
		found := false
		for _, r := range accountEntries(l.read("etc/passwd")) {
			if r[0] == name || numeric && r[2] == name {
				out.UID, out.GID, login, found = parseID(r[2]), parseID(r[3]), r[0], true
				break
			}
		}
		if !found && !numeric {
			return out, errdefs.ErrInvalidArgument.WithMessage(fmt.Sprintf("unable to find user %s: no matching entries in passwd file", name))
		}
		if !found {
			out.UID = uint32(uid)
		}
	}
	var fromFile [][]string
	if group != "" || len(groups) > 0 || login != "" && login != "root" {
		fromFile = accountEntries(append(l.read("etc/group"), '\n'))
	}
	gidOf := func(name string) (uint32, error) {
		for _, r := range fromFile {
			if r[0] == name {
				return parseID(r[2]), nil
			}
		}
		gid, err := strconv.ParseUint(name, 10, 32)
		if err != nil {
			return 0, errdefs.ErrInvalidArgument.WithMessage(fmt.Sprintf("unable to find group %s: no matching entries in group file", name))
		}
		return uint32(gid), nil
	}
	if group != "" {
		gid, err := gidOf(group)
		if err != nil {
			return out, err
		}
		out.GID = gid
	} else if login != "" {
		for _, r := range fromFile {
			if slices.Contains(strings.Split(r[3], ","), login) {
				out.AdditionalGids = append(out.AdditionalGids, parseID(r[2]))
			}
		}
	}
	for _, g := range groups {
		gid, err := gidOf(g)
		if err != nil {
			return out, err
		}
		out.AdditionalGids = append(out.AdditionalGids, gid)
	}
	if !slices.Contains(out.AdditionalGids, out.GID) {
		out.AdditionalGids = append([]uint32{out.GID}, out.AdditionalGids...)
	}
	return out, nil
}

func parseID(text string) uint32 {
	n, _ := strconv.ParseUint(text, 10, 32)
	return uint32(n)
}

func homeDir(l layerPaths, uid uint32) string {
	for _, r := range accountEntries(l.read("etc/passwd")) {
		if len(r) > 5 && parseID(r[2]) == uid {
			return r[5]
		}
	}
	return ""
}
