package api

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/containerd/errdefs"
	apicontainer "github.com/moby/moby/api/types/container"

	"github.com/shoal-dev/shoal/internal/container"
	"github.com/shoal-dev/shoal/internal/image"
	"github.com/shoal-dev/shoal/internal/volume"
)

// containers serves /containers and /exec.
type containers struct {
	log     *slog.Logger
	engine  *container.Engine
	images  *image.Store
	volumes *volume.Store
	// withdrawTask takes the task of a container, if it is one's, out of every balancer.
	withdrawTask func(ctx context.Context, container string)
}

func (c *containers) register(rt *router) {
	rt.handle("POST /containers/create", c.create)
	rt.handle("GET /containers/json", c.list)
	rt.handle("POST /containers/prune", c.prune)
	rt.handle("GET /containers/{id}/json", c.inspect)
	rt.handle("POST /containers/{id}/start", c.start)
	rt.handle("POST /containers/{id}/stop", c.stop)
	rt.handle("POST /containers/{id}/kill", c.kill)
	rt.handle("POST /containers/{id}/restart", c.restart)
	rt.handle("POST /containers/{id}/pause", c.pause)
	rt.handle("POST /containers/{id}/unpause", c.unpause)
	rt.handle("POST /containers/{id}/rename", c.rename)
	rt.handle("POST /containers/{id}/wait", c.wait)
	rt.handle("POST /containers/{id}/resize", c.resize)
	rt.handle("POST /containers/{id}/update", c.update)
	rt.handle("POST /containers/{id}/attach", c.attach)
	rt.handle("GET /containers/{id}/logs", c.logs)
	rt.handle("GET /containers/{id}/top", c.top)
	rt.handle("GET /containers/{id}/stats", c.stats)
	rt.handle("GET /containers/{id}/changes", c.changes)
	rt.handle("DELETE /containers/{id}", c.remove)
	rt.handle("POST /commit", c.commit)
	c.registerExec(rt)
	c.registerArchive(rt)
}

// createBody is the request, kept as it came for inspect to show.
type createBody = apicontainer.CreateRequest

func (c *containers) create(w http.ResponseWriter, r *http.Request) error {
	body := createBody{}
	if err := readJSON(r, &body); err != nil {
		return err
	}
	if body.Config == nil {
		return fail(http.StatusBadRequest, "config cannot be empty in order to create a container")
	}
	if body.HostConfig == nil {
		body.HostConfig = &apicontainer.HostConfig{}
	}
	spec, err := specOf(body, c.engine)
	if err != nil {
		return err
	}
	id, err := c.engine.Create(r.Context(), r.FormValue("name"), spec)
	if err != nil {
		return err
	}
	return writeJSON(w, http.StatusCreated, apicontainer.CreateResponse{ID: id, Warnings: []string{}})
}

func (c *containers) start(w http.ResponseWriter, r *http.Request) error {
	return noContent(w, c.engine.Start(r.Context(), r.PathValue("id")))
}

func noContent(w http.ResponseWriter, err error) error {
	if err == nil {
		w.WriteHeader(http.StatusNoContent)
	}
	return err
}

// timeoutOf reads the parameter t: seconds, negative for ever, absent for the container's own.
func timeoutOf(r *http.Request) (time.Duration, error) {
	text := r.FormValue("t")
	if text == "" {
		return 0, nil
	}
	n, err := strconv.Atoi(text)
	if err != nil {
		return 0, fail(http.StatusBadRequest, "invalid timeout: %s", text)
	}
	if n == 0 {
		return time.Nanosecond, nil
	}
	return time.Duration(n) * time.Second, nil
}

func (c *containers) stop(w http.ResponseWriter, r *http.Request) error {
	timeout, err := timeoutOf(r)
	if err != nil {
		return err
	}
	c.withdraw(r)
	return noContent(w, c.engine.StopWith(r.Context(), r.PathValue("id"), timeout, r.FormValue("signal")))
}

func (c *containers) restart(w http.ResponseWriter, r *http.Request) error {
	timeout, err := timeoutOf(r)
	if err != nil {
		return err
	}
	c.withdraw(r)
	return noContent(w, c.engine.Restart(r.Context(), r.PathValue("id"), timeout))
}

func (c *containers) kill(w http.ResponseWriter, r *http.Request) error {
	signal := r.FormValue("signal")
	switch strings.TrimPrefix(strings.ToUpper(signal), "SIG") {
	case "", "KILL", "9":
		c.withdraw(r)
	}
	return noContent(w, c.engine.Kill(r.Context(), r.PathValue("id"), signal))
}

// withdraw lets no balancer send anything more to a task whose container is about to be ended.
func (c *containers) withdraw(r *http.Request) {
	if info, err := c.engine.Inspect(r.PathValue("id")); err == nil {
		c.withdrawTask(r.Context(), info.ID)
	}
}

func (c *containers) pause(w http.ResponseWriter, r *http.Request) error {
	return noContent(w, c.engine.Pause(r.Context(), r.PathValue("id")))
}

func (c *containers) unpause(w http.ResponseWriter, r *http.Request) error {
	return noContent(w, c.engine.Unpause(r.Context(), r.PathValue("id")))
}

func (c *containers) rename(w http.ResponseWriter, r *http.Request) error {
	return noContent(w, c.engine.Rename(r.PathValue("id"), r.FormValue("name")))
}

func (c *containers) remove(w http.ResponseWriter, r *http.Request) error {
	if flag(r, "force") {
		c.withdraw(r)
	}
	return noContent(w, c.engine.Remove(r.Context(), r.PathValue("id"), flag(r, "force"), flag(r, "v")))
}

func (c *containers) resize(_ http.ResponseWriter, r *http.Request) error {
	width, height, err := sizeOf(r)
	if err != nil {
		return err
	}
	return c.engine.Resize(r.Context(), r.PathValue("id"), width, height)
}

func sizeOf(r *http.Request) (width, height uint32, err error) {
	h, errH := strconv.ParseUint(r.FormValue("h"), 10, 32)
	w, errW := strconv.ParseUint(r.FormValue("w"), 10, 32)
	if errH != nil || errW != nil {
		return 0, 0, fail(http.StatusBadRequest, "invalid resize height or width")
	}
	return uint32(w), uint32(h), nil
}

func (c *containers) wait(w http.ResponseWriter, r *http.Request) error {
	condition := container.Condition(r.FormValue("condition"))
	switch condition {
	case "":
		condition = container.NotRunning
	case container.NotRunning, container.NextExit, container.WaitRemoved:
	default:
		return fail(http.StatusBadRequest, "invalid condition: %q", condition)
	}
	begun := false
	info, err := c.engine.Wait(r.Context(), r.PathValue("id"), condition, func() {
		begun = true
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(http.StatusOK)
		_ = http.NewResponseController(w).Flush()
	})
	if !begun {
		return err
	}
	response := apicontainer.WaitResponse{StatusCode: int64(info.State.ExitCode)}
	if err != nil {
		response.Error = &apicontainer.WaitExitError{Message: err.Error()}
	} else if info.State.Error != "" && condition != container.WaitRemoved {
		// Who waits for the removal of a container that could not start has been told why already.
		response.Error = &apicontainer.WaitExitError{Message: info.State.Error}
	}
	_ = json.NewEncoder(w).Encode(response)
	return nil
}

func (c *containers) update(w http.ResponseWriter, r *http.Request) error {
	info, err := c.engine.Inspect(r.PathValue("id"))
	if err != nil {
		return err
	}
	body := struct {
		apicontainer.Resources
		RestartPolicy apicontainer.RestartPolicy
	}{}
	if err := readJSON(r, &body); err != nil {
		return err
	}
	if err := checkAmounts(body.Resources); err != nil {
		return err
	}
	merged := mergeResources(info.Spec.Resources, resourcesOf(body.Resources))
	var restart *container.Restart
	if body.RestartPolicy.Name != "" {
		restart = &container.Restart{Name: string(body.RestartPolicy.Name), MaxRetries: body.RestartPolicy.MaximumRetryCount}
	}
	if err := c.engine.Update(r.Context(), info.ID, merged, restart); err != nil {
		return err
	}
	return writeJSON(w, http.StatusOK, map[string][]string{"Warnings": {}})
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
	return writeJSON(w, http.StatusOK, out)
}

func (c *containers) prune(w http.ResponseWriter, r *http.Request) error {
	f, err := readFilters(r, "label", "label!", "until")
	if err != nil {
		return err
	}
	deleted := []string{}
	for _, info := range c.engine.List(nil) {
		live := info.State.Status == container.Running || info.State.Status == container.Paused || info.State.Status == container.Restarting
		if live || !f.labelled(info.Labels) || !f.until(info.Created) {
			continue
		}
		if err := c.engine.Remove(r.Context(), info.ID, false, false); err != nil {
			if errdefs.IsNotFound(err) || errdefs.IsConflict(err) {
				continue
			}
			return err
		}
		deleted = append(deleted, info.ID)
	}
	return writeJSON(w, http.StatusOK, map[string]any{"ContainersDeleted": deleted, "SpaceReclaimed": 0})
}

func (c *containers) list(w http.ResponseWriter, r *http.Request) error {
	f, err := readFilters(r, "ancestor", "before", "exited", "expose", "health", "id", "is-task", "isolation", "label", "name", "network", "publish", "since", "status", "volume")
	if err != nil {
		return err
	}
	all := flag(r, "all") || len(f["status"]) > 0 || len(f["exited"]) > 0
	limit, _ := strconv.Atoi(r.FormValue("limit"))
	out := []apicontainer.Summary{}
	for _, info := range c.engine.List(nil) {
		live := info.State.Status == container.Running || info.State.Status == container.Paused || info.State.Status == container.Restarting
		if !all && limit <= 0 && !live || !c.matches(f, info) {
			continue
		}
		out = append(out, summaryOf(info))
		if limit > 0 && len(out) == limit {
			break
		}
	}
	return writeJSON(w, http.StatusOK, out)
}

func (c *containers) matches(f filters, info container.Info) bool {
	health := "none"
	if info.State.Health != nil {
		health = info.State.Health.Status
	}
	relative := func(name string, fits func(container.Info) bool) bool {
		for _, ref := range f[name] {
			if other, err := c.engine.Inspect(ref); err != nil || !fits(other) {
				return false
			}
		}
		return true
	}
	_, task := info.Labels["com.docker.swarm.task.id"]
	return f.any("id", func(v string) bool { return strings.HasPrefix(info.ID, v) }) &&
		f.any("name", func(v string) bool { return nameMatches(v, "/"+info.Name) || nameMatches(v, info.Name) }) &&
		f.any("status", func(v string) bool { return v == string(info.State.Status) }) &&
		f.any("health", func(v string) bool { return v == health }) &&
		f.any("is-task", func(v string) bool { return (v == "true" || v == "1") == task }) &&
		f.any("exited", func(v string) bool {
			return info.State.Status == container.Exited && v == strconv.Itoa(info.State.ExitCode)
		}) &&
		f.any("ancestor", func(v string) bool {
			if img, err := c.images.Get(context.Background(), v); err == nil {
				return img.ID == info.ImageID
			}
			return v == info.Spec.Image
		}) &&
		f.any("volume", func(v string) bool {
			return slices.ContainsFunc(info.Mounts, func(m container.MountPoint) bool { return v == m.Name || v == m.Target })
		}) &&
		f.any("network", func(v string) bool {
			for _, e := range info.Sandbox.Endpoints {
				if v == e.Network || strings.HasPrefix(e.NetworkID, v) {
					return true
				}
			}
			return v == info.Spec.Network.Mode
		}) &&
		f.any("publish", func(v string) bool { return publishes(info, v) }) &&
		f.any("expose", func(v string) bool {
			return slices.Contains(info.Spec.ExposedPorts, v) || slices.Contains(info.Spec.ExposedPorts, v+"/tcp")
		}) &&
		relative("before", func(o container.Info) bool { return info.Created.Before(o.Created) }) &&
		relative("since", func(o container.Info) bool { return info.Created.After(o.Created) }) &&
		f.labelled(info.Labels)
}

func publishes(info container.Info, port string) bool {
	number, proto, _ := strings.Cut(port, "/")
	for _, p := range info.Sandbox.Ports {
		if (proto == "" || proto == string(p.Protocol)) && number == fmt.Sprint(p.HostPort) {
			return true
		}
	}
	return false
}
