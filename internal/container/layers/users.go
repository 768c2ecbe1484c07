package layers

import (
	"bufio"
	"bytes"
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/runtime-spec/specs-go"
)

// The fields of a line of /etc/passwd and of /etc/group, passwd(5) and group(5).
const (
	fieldName    = 0
	fieldID      = 2
	fieldGroupID = 3 // of /etc/passwd
	fieldMembers = 3 // of /etc/group, separated by commas
	fieldHome    = 5 // of /etc/passwd
)

// FindUser resolves "user", "user:group", "uid" or "uid:gid" with the container's own /etc/passwd and /etc/group; "" is root. The user
// is also in the given groups, by name or number, and in those that /etc/group puts it in, unless user names a group. A name that is
// not there is an invalid argument; a number need not be there.
func (d Dirs) FindUser(user string, groups []string) (specs.User, error) {
	userName, groupName, _ := strings.Cut(user, ":")
	out, login, err := d.findAccount(cmp.Or(userName, "0"))
	if err != nil {
		return out, err
	}
	var inFile groupFile
	if groupName != "" || len(groups) > 0 || login != "" && login != rootLogin {
		inFile = entries(d.read("etc/group"))
	}
	if groupName != "" {
		if out.GID, err = inFile.id(groupName); err != nil {
			return out, err
		}
	} else if login != "" {
		out.AdditionalGids = inFile.of(login)
	}
	for _, g := range groups {
		gid, err := inFile.id(g)
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

// rootLogin is the login name of root.
const rootLogin = "root"

// findAccount returns the IDs of a user, by name or number, and its login name: "" for a number that /etc/passwd does not have. Root
// needs no /etc/passwd.
func (d Dirs) findAccount(user string) (ids specs.User, login string, err error) {
	if user == "0" || user == rootLogin {
		return specs.User{}, rootLogin, nil
	}
	uid, err := strconv.ParseUint(user, 10, 32)
	isNumber := err == nil
	for _, entry := range entries(d.read("etc/passwd")) {
		if entry[fieldName] == user || isNumber && entry[fieldID] == user {
			return specs.User{UID: parseID(entry[fieldID]), GID: parseID(entry[fieldGroupID])}, entry[fieldName], nil
		}
	}
	if !isNumber {
		return specs.User{}, "", errdefs.ErrInvalidArgument.WithMessage(fmt.Sprintf("unable to find user %s: no matching entries in passwd file", user))
	}
	return specs.User{UID: uint32(uid)}, "", nil
}

// HomeDir returns the home directory that /etc/passwd gives a user; "" if it has none for that ID.
func (d Dirs) HomeDir(uid uint32) string {
	for _, entry := range entries(d.read("etc/passwd")) {
		if len(entry) > fieldHome && parseID(entry[fieldID]) == uid {
			return entry[fieldHome]
		}
	}
	return ""
}

// groupFile is the entries of /etc/group.
type groupFile [][]string

// id returns the ID of a group, by name or number.
func (g groupFile) id(group string) (uint32, error) {
	for _, entry := range g {
		if entry[fieldName] == group {
			return parseID(entry[fieldID]), nil
		}
	}
	gid, err := strconv.ParseUint(group, 10, 32)
	if err != nil {
		return 0, errdefs.ErrInvalidArgument.WithMessage(fmt.Sprintf("unable to find group %s: no matching entries in group file", group))
	}
	return uint32(gid), nil
}

// of returns the IDs of the groups that have a user as a member, nil if none.
func (g groupFile) of(login string) []uint32 {
	var ids []uint32
	for _, entry := range g {
		if slices.Contains(strings.Split(entry[fieldMembers], ","), login) {
			ids = append(ids, parseID(entry[fieldID]))
		}
	}
	return ids
}

// entries splits the lines of /etc/passwd or /etc/group into fields, at least four each; shorter lines are left out.
func entries(file []byte) [][]string {
	var all [][]string
	lines := bufio.NewScanner(bytes.NewReader(file))
	for lines.Scan() {
		if fields := strings.Split(lines.Text(), ":"); len(fields) >= 4 {
			all = append(all, fields)
		}
	}
	return all
}

// parseID reads a user or group ID; 0 for what is no number, as in Docker.
func parseID(text string) uint32 {
	n, _ := strconv.ParseUint(text, 10, 32)
	return uint32(n)
}
