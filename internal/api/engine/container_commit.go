package engine

import (
	"context"
	"net/http"
	"strings"

	apicontainer "github.com/moby/moby/api/types/container"

	"github.com/shoal-dev/shoal/internal/api/server"
	"github.com/shoal-dev/shoal/internal/container"
	"github.com/shoal-dev/shoal/internal/image"
)

// commit makes an image of a container: what it has written, on top of its image. A running container is paused meanwhile, unless
// the request says otherwise, so that the files of the image fit together.
func (c *containers) commit(w http.ResponseWriter, r *http.Request) error {
	info, err := c.engine.Inspect(r.FormValue("container"))
	if err != nil {
		return err
	}
	parent, err := c.images.Get(r.Context(), info.ImageID)
	if err != nil {
		return err
	}
	own := committedConfig(info, parent)
	config, err := readCommitConfig(r)
	if err != nil {
		return err
	}
	if config == nil {
		config = &own
	}
	if err := applyChanges(config, r.Form["changes"]); err != nil {
		return err
	}
	fillConfig(config, own)
	ref := r.FormValue("repo")
	if tag := r.FormValue("tag"); tag != "" && ref != "" {
		ref += ":" + tag
	}
	if pause := r.FormValue("pause"); info.State.Status == container.Running && pause != "0" && pause != "false" {
		err := c.engine.Pause(r.Context(), info.ID)
		now, gone := c.engine.Inspect(info.ID)
		switch {
		case err == nil:
			defer c.unpauseAfterCommit(context.WithoutCancel(r.Context()), info.ID)
		case gone != nil || isUp(now):
			return err
		} // else it has ended meanwhile, and writes nothing more
	}
	img, err := c.images.Commit(r.Context(), image.Commit{
		Snapshot: info.ID, Parent: parent, Config: *config, Ref: ref, Author: r.FormValue("author"), Message: r.FormValue("comment"),
		CreatedBy: strings.Join(append([]string{info.Path}, info.Args...), " "),
	})
	if err != nil {
		return err
	}
	c.engine.Tell(info.ID, "commit", map[string]string{"comment": r.FormValue("comment"), "imageID": img.ID, "imageRef": ref})
	return server.WriteJSON(w, http.StatusCreated, apicontainer.CommitResponse{ID: img.ID})
}

func (c *containers) unpauseAfterCommit(ctx context.Context, id string) {
	if err := c.engine.Unpause(ctx, id); err != nil {
		c.log.Error("container stays paused after a commit; unpause it by hand", "container", id, "err", err)
	}
}
