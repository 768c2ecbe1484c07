package container

import (
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"regexp"
	"strings"

	"github.com/containerd/errdefs"

	"github.com/shoal-dev/shoal/internal/shoal"
)

// nameRule is which names containers may have, as in Docker.
var nameRule = regexp.MustCompile(`^[a-zA-Z0-9][a-zA-Z0-9_.-]+$`)

// newID returns a random ID of a container or an exec: 64 hexadecimal digits.
func newID() string {
	var b [32]byte
	_, _ = rand.Read(b[:]) // never fails
	return hex.EncodeToString(b[:])
}

// reserveName gives a name to a container that is about to be made or renamed, and returns it without a leading slash. It invents one
// if name is empty. A malformed name is an invalid argument, one in use a conflict.
func (e *Engine) reserveName(name, id string) (string, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	name = strings.TrimPrefix(name, "/")
	if !e.listed {
		return "", errdefs.ErrUnavailable.WithMessage("the containers of this node cannot be read")
	}
	if name == "" {
		name = shoal.InventName(func(name string) bool { _, taken := e.names[name]; return taken })
	}
	if !nameRule.MatchString(name) {
		return "", errdefs.ErrInvalidArgument.WithMessage(fmt.Sprintf("Invalid container name (%s), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed", name))
	}
	if holder, taken := e.names[name]; taken {
		return "", errdefs.ErrConflict.WithMessage(fmt.Sprintf("Conflict. The container name %q is already in use by container %q. You have to remove (or rename) that container to be able to reuse that name.",
			"/"+name, holder))
	}
	e.names[name] = id
	return name, nil
}

// releaseName makes a name free for other containers.
func (e *Engine) releaseName(name string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	delete(e.names, name)
}

// Rename gives a container another name. An empty or malformed name is an invalid argument, one in use a conflict.
func (e *Engine) Rename(ref, name string) error {
	c, err := e.find(ref)
	if err != nil {
		return err
	}
	info, _ := c.snapshot()
	if name == "" {
		return errdefs.ErrInvalidArgument.WithMessage("Neither old nor new names may be empty")
	}
	if strings.TrimPrefix(name, "/") == info.Name {
		return errdefs.ErrInvalidArgument.WithMessage("Renaming a container with the same name as its current name")
	}
	if name, err = e.reserveName(name, info.ID); err != nil {
		return err
	}
	old := info.Name
	err = e.commit(c, func(i *Info) { i.Name = name })
	e.releaseName(old)
	if err == nil {
		err = e.renameLinks(old, name)
	}
	if err != nil {
		return err
	}
	e.publish("rename", c, map[string]string{"oldName": "/" + old})
	return nil
}
