package engine

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/containerd/errdefs"
	apicontainer "github.com/moby/moby/api/types/container"

	"github.com/shoal-dev/shoal/internal/api/server"
	"github.com/shoal-dev/shoal/internal/container"
	"github.com/shoal-dev/shoal/internal/image"
	"github.com/shoal-dev/shoal/internal/shoal"
)

// containers serves /containers, /exec and /commit.
type containers struct {
	log          *slog.Logger
	engine       *container.Engine
	images       *image.Store
	withdrawTask func(ctx context.Context, containerID string)
	findNetwork  func(ref string) (shoal.Network, error)
}

func (c *containers) Register(rt *server.Router) {
	rt.Handle("POST /containers/create", c.create)
	rt.Handle("GET /containers/json", c.list)
	rt.Handle("POST /containers/prune", c.prune)
	rt.Handle("GET /containers/{id}/json", c.inspect)
	rt.Handle("POST /containers/{id}/start", c.start)
	rt.Handle("POST /containers/{id}/stop", c.stop)
	rt.Handle("POST /containers/{id}/kill", c.kill)
	rt.Handle("POST /containers/{id}/restart", c.restart)
	rt.Handle("POST /containers/{id}/pause", c.pause)
	rt.Handle("POST /containers/{id}/unpause", c.unpause)
	rt.Handle("POST /containers/{id}/rename", c.rename)
	rt.Handle("POST /containers/{id}/wait", c.wait)
	rt.Handle("POST /containers/{id}/resize", c.resize)
	rt.Handle("POST /containers/{id}/update", c.update)
	rt.Handle("POST /containers/{id}/attach", c.attach)
	rt.Handle("GET /containers/{id}/logs", c.logs)
	rt.Handle("GET /containers/{id}/top", c.top)
	rt.Handle("GET /containers/{id}/stats", c.stats)
	rt.Handle("GET /containers/{id}/changes", c.changes)
	rt.Handle("DELETE /containers/{id}", c.remove)
	rt.Handle("DELETE /containers/{id}/{alias}", c.removeLink)
	rt.Handle("POST /commit", c.commit)
	c.registerExec(rt)
	c.registerArchive(rt)
}

// isRunning is what Docker calls running: paused and restarting containers are too.
func isRunning(info container.Info) bool {
	return info.State.Status == container.Restarting || isUp(info)
}

// isUp tells whether a container has processes, paused ones included, and with them a network namespace.
func isUp(info container.Info) bool {
	return info.State.Status == container.Running || info.State.Status == container.Paused
}

func (c *containers) start(w http.ResponseWriter, r *http.Request) error {
	if r.FormValue("checkpoint") != "" || r.FormValue("checkpoint-dir") != "" {
		return server.Errorf(http.StatusNotImplemented, "checkpoints: not supported by this engine")
	}
	return server.NoContent(w, c.engine.Start(r.Context(), r.PathValue("id")))
}

// stopTimeout reads the parameter t, in seconds: negative waits for ever, absent is the container's own timeout. The engine knows
// the latter as 0, so a timeout of no seconds becomes the shortest one there is.
func stopTimeout(r *http.Request) (time.Duration, error) {
	text := r.FormValue("t")
	if text == "" {
		return 0, nil
	}
	n, err := strconv.Atoi(text)
	if err != nil {
		return 0, server.BadRequest("invalid timeout: %s", text)
	}
	if n == 0 {
		return time.Nanosecond, nil
	}
	return time.Duration(n) * time.Second, nil
}

// unhurried is the request's context without its end: a container must not be left half stopped because the client that asked for it has gone.
func unhurried(r *http.Request) context.Context { return context.WithoutCancel(r.Context()) }

func (c *containers) stop(w http.ResponseWriter, r *http.Request) error {
	timeout, err := stopTimeout(r)
	if err != nil {
		return err
	}
	c.withdraw(r)
	return server.NoContent(w, c.engine.StopWith(unhurried(r), r.PathValue("id"), timeout, r.FormValue("signal")))
}

func (c *containers) restart(w http.ResponseWriter, r *http.Request) error {
	timeout, err := stopTimeout(r)
	if err != nil {
		return err
	}
	c.withdraw(r)
	return server.NoContent(w, c.engine.Restart(unhurried(r), r.PathValue("id"), timeout, r.FormValue("signal")))
}

func (c *containers) kill(w http.ResponseWriter, r *http.Request) error {
	signal := r.FormValue("signal")
	switch strings.TrimPrefix(strings.ToUpper(signal), "SIG") {
	case "", "KILL", "9":
		c.withdraw(r)
	}
	return server.NoContent(w, c.engine.Kill(r.Context(), r.PathValue("id"), signal))
}

// withdraw makes load balancers stop sending new connections to the task of a container that is about to be stopped.
func (c *containers) withdraw(r *http.Request) {
	if info, err := c.engine.Inspect(r.PathValue("id")); err == nil {
		c.withdrawTask(r.Context(), info.ID)
	}
}

func (c *containers) pause(w http.ResponseWriter, r *http.Request) error {
	return server.NoContent(w, c.engine.Pause(r.Context(), r.PathValue("id")))
}

func (c *containers) unpause(w http.ResponseWriter, r *http.Request) error {
	return server.NoContent(w, c.engine.Unpause(r.Context(), r.PathValue("id")))
}

func (c *containers) rename(w http.ResponseWriter, r *http.Request) error {
	return server.NoContent(w, c.engine.Rename(r.PathValue("id"), r.FormValue("name")))
}

func (c *containers) remove(w http.ResponseWriter, r *http.Request) error {
	if server.BoolParam(r, "link") {
		if _, err := c.engine.Inspect(r.PathValue("id")); err != nil {
			return err
		}
		return server.Errorf(http.StatusInternalServerError, "Conflict, cannot remove the default link name of the container")
	}
	if server.BoolParam(r, "force") {
		c.withdraw(r)
	}
	return server.NoContent(w, c.engine.Remove(r.Context(), r.PathValue("id"), server.BoolParam(r, "force"), server.BoolParam(r, "v")))
}

func (c *containers) resize(_ http.ResponseWriter, r *http.Request) error {
	width, height, err := terminalSize(r)
	if err != nil {
		return err
	}
	return c.engine.Resize(r.Context(), r.PathValue("id"), width, height)
}

func terminalSize(r *http.Request) (width, height uint32, err error) {
	for _, side := range []struct {
		name, text string
		to         *uint32
	}{{"height", r.FormValue("h"), &height}, {"width", r.FormValue("w"), &width}} {
		n, err := strconv.ParseUint(side.text, 10, 32)
		if err != nil {
			if _, negative := strings.CutPrefix(side.text, "-"); negative {
				if _, err2 := strconv.ParseInt(side.text, 10, 64); err2 == nil {
					err = strconv.ErrRange
				}
			}
			if inner := errors.Unwrap(err); inner != nil {
				err = inner
			}
			return 0, 0, server.BadRequest("invalid resize %s %q: %v", side.name, side.text, err)
		}
		*side.to = uint32(n)
	}
	return width, height, nil
}

func (c *containers) changes(w http.ResponseWriter, r *http.Request) error {
	found, err := c.engine.Diff(r.Context(), r.PathValue("id"))
	if err != nil {
		return err
	}
	out := []apicontainer.FilesystemChange{}
	for _, change := range found {
		out = append(out, apicontainer.FilesystemChange{Kind: apicontainer.ChangeType(change.Kind), Path: change.Path})
	}
	return server.WriteJSON(w, http.StatusOK, out)
}

func (c *containers) prune(w http.ResponseWriter, r *http.Request) error {
	f, err := server.ReadPruneFilters(r, "until")
	if err != nil {
		return err
	}
	deleted := []string{}
	var freed int64
	for _, info := range c.engine.List(nil) {
		if isRunning(info) || !f.Take(info.Labels, info.Created) {
			continue
		}
		written, _, _ := c.engine.Size(r.Context(), info.ID) // what cannot be measured is not counted
		if err := c.engine.Remove(r.Context(), info.ID, false, false); err != nil {
			if errdefs.IsNotFound(err) || errdefs.IsConflict(err) {
				continue
			}
			return err
		}
		deleted = append(deleted, info.ID)
		freed += written
	}
	publishPrune(c.engine.Events, "container", freed)
	return server.WriteJSON(w, http.StatusOK, map[string]any{"ContainersDeleted": deleted, "SpaceReclaimed": freed})
}
